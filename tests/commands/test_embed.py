"""`streamer embed` as a process, against the fakes of all services and the real local models."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from streamer.core.vectors import Matrix
from streamer.embedding.backoff import BackoffPolicy
from tests.commands.in_process import empty_folder, streamer  # noqa: F401  a fixture for all tests here
from tests.support import processes
from tests.support.vendors.cohere import FakeCohere
from tests.support.vendors.misbehaviour import HANG, NOTHING, RESET, Fault
from tests.support.vendors.ollama import FakeOllama
from tests.support.vendors.openai import FakeAzureOpenAI, FakeOpenAI
from tests.support.vendors.sentence_transformers import installed_model
from tests.support.vendors.server import FakeVendor
from tests.support.vendors.services import KEY, assert_same
from tests.support.vendors.voyage import FakeVoyage

pytestmark = pytest.mark.anyio


def vectors_of(lines: str) -> Matrix:
    return np.array([orjson.loads(line)["vector"] for line in lines.splitlines()], dtype=np.float32)


class CompatibleServer(FakeOpenAI):
    """Another's server with OpenAI's API: no key, no base64, a model and a length of its own."""

    def expect_bearer(self, request: Any, message: str, code: str = "") -> None:
        return

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"


SERVICES: dict[str, tuple[Callable[..., FakeVendor], list[str], dict[str, str]]] = {
    "openai": (FakeOpenAI, ["--provider", "openai"], {"STREAMER_PROVIDER__API_KEY": KEY}),
    "azure": (
        FakeAzureOpenAI,
        [
            *("--provider", "openai", "--set", "provider.azure_api_version=2024-10-21"),
            *("--set", "provider.azure_deployment=embeddings-eu"),
        ],
        {"AZURE_OPENAI_API_KEY": KEY},
    ),
    "compatible": (CompatibleServer, ["--provider", "openai", "--set", "provider.encoding_format=float"], {}),
    "cohere": (
        FakeCohere,
        ["--provider", "cohere", "--model", "embed-english-v3.0"],
        {"STREAMER_PROVIDER__API_KEY": KEY},
    ),
    "voyage": (FakeVoyage, ["--provider", "voyage", "--model", "voyage-3"], {"STREAMER_PROVIDER__API_KEY": KEY}),
    "ollama": (FakeOllama, ["--provider", "ollama"], {"STREAMER_PROVIDER__API_KEY": KEY}),
}
EXPECTED: dict[str, Callable[[list[str], str], Matrix]] = {
    "cohere": lambda texts, purpose: FakeCohere().expected(texts, f"search_{purpose}"),
    "voyage": lambda texts, purpose: FakeVoyage().expected(texts, purpose),
    "ollama": lambda texts, purpose: FakeOllama().expected([f"search_{purpose}: {text}" for text in texts]),
}


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("purpose", ["document", "query"])
async def test_each_provider_embeds(name: str, purpose: str) -> None:
    fake, options, environ = SERVICES[name]
    texts = ["hello world", "naïve 日本語 🦑", "and a third"]
    async with fake(key=KEY) as server:
        base_url: str = server.base_url  # type: ignore[attr-defined]
        arguments = [*options, "--set", f"provider.base_url={base_url}", *(["--query"] if purpose == "query" else [])]
        done = await streamer("embed", *texts, *arguments, **environ)
    assert done.code == 0, done.stderr
    lines = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == texts
    expected = EXPECTED[name](texts, purpose) if name in EXPECTED else FakeOpenAI().expected(texts)
    assert_same(vectors_of(done.stdout), expected)
    assert not any(line["truncated"] or line["cache_hit"] for line in lines)


@pytest.mark.parametrize("name", ["onnx", "sentence-transformers"])
async def test_each_local_model_embeds(name: str, tmp_path: Path) -> None:
    options = []
    if name == "sentence-transformers":
        folder = installed_model()
        if folder is None:
            pytest.skip("no sentence-transformers (it brings torch), or no model: see make test-sentence-transformers")
        options = ["--model", str(folder), "--set", "provider.device=cpu"]
    done = await streamer("embed", "a cat", "a kitten", "stocks fell", "--provider", name, *options)
    assert done.code == 0, done.stderr
    cat, kitten, stocks = vectors_of(done.stdout)
    assert cat.shape == (384,)
    assert cat @ kitten > 0.5 > cat @ stocks


async def test_a_file_becomes_a_matrix_or_lines(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one\n\ntwo\n   \nthree\n")
    async with FakeOpenAI(key=KEY) as server:
        settings = {"STREAMER_PROVIDER__NAME": "openai", "STREAMER_PROVIDER__BASE_URL": server.base_url}
        settings |= {"STREAMER_PROVIDER__API_KEY": KEY}
        for output in ("vectors.npy", "vectors.jsonl"):
            done = await streamer("embed", "zero", "--file", "texts.txt", "-o", output, **settings)
            assert (done.code, done.stdout) == (0, "")
        assert "4 texts, 4 of them from the cache; 0 tokens embedded" in done.stderr
        assert len(server.requests) == 1
        expected = server.expected(["zero", "one", "two", "three"])
    assert_same(np.load(tmp_path / "vectors.npy"), expected)
    assert_same(vectors_of((tmp_path / "vectors.jsonl").read_text()), expected)
    assert [name for name in sorted(os.listdir(tmp_path)) if "vectors" in name] == ["vectors.jsonl", "vectors.npy"]


async def test_what_has_no_vector_is_said_and_keeps_its_row(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("good\npoison\nfine\n")
    async with FakeOpenAI(key=KEY) as server:
        server.poison = {"poison"}
        options = ["--provider", "openai", "--set", f"provider.base_url={server.base_url}"]
        done = await streamer("embed", "-f", "texts.txt", "-o", "v.npy", *options, STREAMER_PROVIDER__API_KEY=KEY)
        lines = await streamer("embed", "-f", "texts.txt", *options, STREAMER_PROVIDER__API_KEY=KEY)
        assert done.code == lines.code == 1
        assert "1 of 3 texts have no vector; text 2: rejected, openai answered 400" in done.stderr
        matrix = np.load(tmp_path / "v.npy")
        assert np.isnan(matrix[1]).all()
        assert_same(matrix[[0, 2]], server.expected(["good", "fine"]))
        [bad] = [line for line in map(orjson.loads, lines.stdout.splitlines()) if "vector" not in line]
        assert (bad["text"], bad["error_kind"]) == ("poison", "rejected")


async def test_a_column_is_embedded_and_ids_stay_with_their_vectors(tmp_path: Path) -> None:
    """First hour D11."""
    (tmp_path / "reviews.csv").write_text('id,body\nr-1,"Too\nlate"\nr-2,poison\nr-3,Fine\n')
    (tmp_path / "reviews.jsonl").write_text('{"id": 1, "body": "Too late"}\n{broken\n{"id": 3, "body": "Fine"}\n')
    async with FakeOpenAI(key=KEY) as server:
        server.poison = {"poison"}
        options = ["--text-field", "body", "--id-field", "id", "--provider", "openai"]
        options += ["--set", f"provider.base_url={server.base_url}"]
        key = {"STREAMER_PROVIDER__API_KEY": KEY}
        lines = await streamer("embed", "-f", "reviews.csv", *options, **key)
        await streamer("embed", "-f", "reviews.csv", *options, "-o", "v.npy", **key)
        skipping = await streamer("embed", "-f", "reviews.jsonl", *options, "--skip-bad", **key)
        expected = server.expected(["Too\nlate", "Fine"])
    first, bad, last = map(orjson.loads, lines.stdout.splitlines())
    assert [(line["id"], line["text"]) for line in (first, bad, last)] == [
        ("r-1", "Too\nlate"), ("r-2", "poison"), ("r-3", "Fine"),
    ]  # fmt: skip
    assert bad["error_kind"] == "rejected"
    matrix = np.load(tmp_path / "v.npy")
    assert_same(matrix[[0, 2]], expected)
    assert np.isnan(matrix[1]).all()
    assert (tmp_path / "v.ids.jsonl").read_text() == '"r-1"\n"r-2"\n"r-3"\n'
    assert [orjson.loads(line)["id"] for line in skipping.stdout.splitlines()] == [1, 3]
    assert "2 texts, 1 of them from the cache" in skipping.stderr
    assert "; 1 skipped, the first is reviews.jsonl:2: not JSON" in skipping.stderr


@pytest.mark.slow
async def test_it_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    texts = [f"text number {i}" for i in range(60)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    async with FakeOpenAI(key=KEY) as server:
        server.always = lambda request: HANG if len(server.requests) > 4 else NOTHING
        settings = {
            "provider.name": "openai", "provider.base_url": server.base_url, "provider.api_key": KEY,
            "provider.max_items": 5, "provider.max_concurrent_requests": 1, "cache.path": tmp_path / "cache.sqlite",
        }  # fmt: skip
        arguments = ["--file", str(tmp_path / "texts.txt"), "--output", str(tmp_path / "vectors.npy")]
        with processes.streamer("embed", settings, *arguments) as first:
            await server.received(5)
            first.send_signal(signal.SIGINT)
            assert await first.wait() == 130
        assert sorted(os.listdir(tmp_path)) == ["cache.sqlite", "cache.sqlite.lock", "texts.txt"]
        server.always = NOTHING
        with processes.streamer("embed", settings, *arguments) as second:
            assert await second.wait() == 0
            assert "60 texts, 20 of them from the cache" in second.stderr
        answered = [request for number, request in enumerate(server.requests) if number != 4]
        assert sorted(text for request in answered for text in request.json["input"]) == sorted(texts)
        assert_same(np.load(tmp_path / "vectors.npy"), server.expected(texts))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["hi", "-o", "vectors.csv"], "--output vectors.csv: its name must end in .npy or .jsonl"),
        (["hi", "-o", "nowhere/vectors.npy"], "there is no folder nowhere"),
        (["-f", "absent.txt"], "absent.txt cannot be read: No such file or directory"),
        (["-f", "blank.txt"], "blank.txt has no text in it"),
        (["-f", "latin.txt"], "latin.txt:1: not UTF-8: byte 0xe9 at character 4; see --encoding"),
        (["-f", "reviews.csv"], "reviews.csv:2: no field 'text'; there are id, body"),
        (["-f", "reviews.jsonl"], "reviews.jsonl:1: no field 'text'; there are id, body"),
        (["-f", "reviews.csv", "--text-field", "body", "--id-field", "key"], "reviews.csv:2: no field 'key'"),
        (["hi", "--fit-pca", "4"], "say where, as in --output pca.npz"),
        (
            ["hi", "--fit-pca", "4", "-o", "pca.npz"],
            "the 1 vectors of the sample span 1 dimensions, too few for 4 axes",
        ),
        (["hi", "--fit-pca", "384", "-o", "pca.npz"], "can be reduced to 1 to 383, not to 384"),
        (["hi", "--set", "provider.dimensions=128"], "any smaller number takes a provider.reduction"),
        (["hi", "--set", "provider.reduction=absent.npz"], "provider.reduction = absent.npz: No such file"),
        (["hi", "--set", "provider.reduction=blank.txt"], "provider.reduction = blank.txt is not a projection"),
        (["hi", "--provider", "openai"], "set OPENAI_API_KEY in the environment"),
        (["hi", "--provider", "openai", "--model", "mine"], "set dimensions, max_item_tokens, max_items for it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_wrong_is_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    """First hour D11."""
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "reviews.csv").write_text("id,body\n1,Too late\n")
    (tmp_path / "reviews.jsonl").write_text('{"id": 1, "body": "Too late"}\n')
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    done = await streamer("embed", *arguments)
    assert done.code == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


async def test_a_projection_is_fitted_saved_and_used(tmp_path: Path) -> None:
    (tmp_path / "sample.txt").write_text("\n".join(f"sentence about topic {i} and {i * i}" for i in range(40)))
    texts = ["sentence about topic 3 and 9", "sentence about topic 4 and 17"]
    whole = await streamer("embed", *texts)
    done = await streamer("embed", "-f", "sample.txt", "--fit-pca", "20", "-o", "pca.npz")
    assert done.code == 0
    assert "pca.npz: 20 of 384 dimensions" in done.stderr
    reduced = await streamer("embed", *texts, "--set", "provider.reduction=pca.npz")
    long, short = vectors_of(whole.stdout), vectors_of(reduced.stdout)
    assert short.shape == (2, 20)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-6)
    assert abs(long[0] @ long[1] - short[0] @ short[1]) < 0.1
    assert len({orjson.loads(line)["space"] for line in (whole.stdout + reduced.stdout).splitlines()}) == 2
    other = await streamer("embed", "hi", "--set", "provider.reduction=pca.npz", "--set", "input.on_too_long=chunk")
    assert other.code == 2
    assert "provider.reduction was fitted to the space" in other.stderr


async def test_standard_input_is_read() -> None:
    done = await streamer("embed", "-f", "-", stdin="first\n\nsecond\n")
    assert done.code == 0
    assert [orjson.loads(line)["text"] for line in done.stdout.splitlines()] == ["first", "second"]


@pytest.mark.parametrize("say", ["500", "400", "nothing", "NaN"])
async def test_row_20_one_poison_text_takes_no_other_with_it(
    say: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that fails with one text each time, as one whose model crashes on it."""
    monkeypatch.setattr(BackoffPolicy, "delay", lambda *_, **__: 0.001)
    texts = ["good", "poison", "fine", *(f"text {i}" for i in range(20))]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    answers = {
        "500": Fault(status=500, body=b'{"error": "do embedding request: EOF"}'),
        "400": Fault(status=400, body=b'{"error": "no"}'),
        "nothing": RESET,
        "NaN": Fault(status=500, body=b'{"error": "failed to encode response: json: unsupported value: NaN"}'),
    }
    async with FakeOpenAI(key=KEY) as server:
        server.always = lambda request: answers[say] if "poison" in request.json["input"] else NOTHING
        options = ["--provider", "openai", "--set", f"provider.base_url={server.base_url}"]
        done = await streamer("embed", "-f", "texts.txt", *options, STREAMER_PROVIDER__API_KEY=KEY)
        assert len(server.requests) < 60
        expected = server.expected([text for text in texts if text != "poison"])
    assert done.code == 1
    assert f"1 of {len(texts)} texts have no vector" in done.stderr
    lines = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == texts
    assert lines[1]["error_kind"] == "rejected"
    found = np.array([line["vector"] for line in lines if "vector" in line], dtype=np.float32)
    assert_same(found, expected)


async def test_row_4_embed_says_what_is_wrong_with_the_set_up_at_once(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one\ntwo\nthree\n")
    async with FakeOpenAI(key=KEY) as server:
        server.always = Fault(status=422, body=b'{"detail": [{"loc": ["body", "dimensions"], "msg": "no extra"}]}')
        options = ["--provider", "openai", "--set", f"provider.base_url={server.base_url}"]
        done = await streamer("embed", "-f", "texts.txt", *options, STREAMER_PROVIDER__API_KEY=KEY)
    assert done.code == 3
    assert done.stdout == ""
    assert "body.dimensions: no extra" in done.stderr
    assert "check provider.dimensions" in done.stderr
