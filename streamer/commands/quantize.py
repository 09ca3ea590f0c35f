"""`streamer embed --quantize`: a folder whose model computes in integers, out of one whose model does not."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import numpy as np
from rich.console import Console

from streamer.adapters.providers.onnx_encoder import SentenceEncoder
from streamer.adapters.providers.onnx_int8 import RANGES_FILE, quantize_folder
from streamer.adapters.providers.onnx_models import load, session_of
from streamer.core.vectors import Matrix, unit_rows
from streamer.errors import ConfigurationError, Unwritable, unwritable

LEAST_TEXTS = 20
MOST_TEXTS = 2_000  # of a sample; half of them is measured, the other half is what the vectors are compared on
LEAST_COSINE = 0.95  # in the mean; below it the graph is another model: MiniLM and its like reach 0.99
TOKENS_PER_RUN = 512


@dataclass(frozen=True, slots=True)
class Comparison:
    """On texts that nothing was measured on. Speeds: texts a second on one core."""

    before: float
    after: float
    mean_cosine: float
    least_cosine: float

    def __str__(self) -> str:
        return (
            f"{self.before:.0f} texts/s on a core before, {self.after:.0f} now, {self.after / self.before:.1f} times; "
            f"cosine with the float32 vectors {self.mean_cosine:.4f} in the mean, {self.least_cosine:.4f} at the least"
        )


async def quantize(folder: Path, texts: Sequence[str], output: Path | None) -> None:
    """Write `output`: the files of the folder, and the ranges measured on half of the texts. Prints a comparison.

    Raises ConfigurationError when the folder, the output or the sample will not do, and when
    the vectors come out as those of another model.
    """
    if output is None or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise ConfigurationError("--quantize writes a folder; name a new one, as in --output my-model-int8")
    if len(texts) < LEAST_TEXTS:
        raise ConfigurationError(f"--quantize needs a sample of at least {LEAST_TEXTS} texts; there are {len(texts)}")
    comparison = await anyio.to_thread.run_sync(partial(_quantize, folder, texts[:MOST_TEXTS], output))
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"{output}: {comparison}; to use it: --set provider.model={output}", markup=False)


def _quantize(folder: Path, texts: Sequence[str], output: Path) -> Comparison:
    plain = load(str(folder), "float32")
    output.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(folder, output, dirs_exist_ok=True, ignore=shutil.ignore_patterns(RANGES_FILE, ".git"))
        quantize_folder(plain, texts[::2], output / RANGES_FILE, session_of)
        comparison = _compared(plain, load(str(output), "int8"), texts[1::2])
        if comparison.mean_cosine < LEAST_COSINE:
            raise ConfigurationError(
                f"--quantize does not fit this model: {comparison}. It is built otherwise than BERT, or "
                'num_attention_heads is wrong; it runs with provider.precision = "float32"'
            )
    except BaseException as exc:
        shutil.rmtree(output)  # half a model, or another one, must not look like this one
        if isinstance(exc, shutil.Error):  # of each file that it could not copy: from, to, why
            raise Unwritable(f"{output} cannot be written: {exc.args[0][0][2]}") from exc
        if isinstance(exc, OSError):
            raise unwritable(output, exc) from exc
        raise
    return comparison


def _compared(plain: SentenceEncoder, quantized: SentenceEncoder, texts: Sequence[str]) -> Comparison:
    before, expected = _timed(plain, texts)
    after, found = _timed(quantized, texts)
    cosines = np.einsum("ij,ij->i", expected, found)
    return Comparison(before, after, float(cosines.mean()), float(cosines.min()))


def _timed(encoder: SentenceEncoder, texts: Sequence[str]) -> tuple[float, Matrix]:
    """Texts a second, and their unit vectors."""
    started = time.perf_counter()
    rows, _ = encoder.tokenize(texts)
    vectors = np.empty((len(rows), encoder.dimensions), np.float32)
    for group in encoder.groups([len(row) for row in rows], TOKENS_PER_RUN):
        vectors[group] = encoder.run([rows[i] for i in group])
    return len(texts) / (time.perf_counter() - started), unit_rows(vectors)
