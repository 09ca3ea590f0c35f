"""The ranges of the bundled model, measured on sample texts: writes streamer/adapters/providers/minilm_ranges.npz.

    python -m tests.bench.calibration TEXTS.csv ... [--output FILE]

Each file gives the last column of up to 200 of its rows, spread over it; they should be of several kinds. Prints one
JSON line: texts, and how close the vectors of other rows come to those in float32.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import orjson

from streamer.adapters.providers.onnx_encoder import SentenceEncoder
from streamer.adapters.providers.onnx_int8 import BUNDLED_RANGES, quantize_folder
from streamer.adapters.providers.onnx_models import BUNDLED_MODEL, load, session_of
from streamer.core.vectors import Matrix, unit_rows

ROWS = 200
TOKENS = 512


def texts_in(file: Path, begin: int) -> list[str]:
    """Every n-th row's last column, from row `begin` on."""
    with file.open(encoding="utf-8", newline="") as lines:
        delimiter = {"quoting": csv.QUOTE_NONE, "delimiter": "\t"} if file.suffix == ".tsv" else {}
        rows = [row[-1] for row in csv.reader(lines, **delimiter) if row]  # type: ignore[arg-type]
    return rows[begin :: max(1, len(rows) // ROWS)][:ROWS]


def vectors(encoder: SentenceEncoder, texts: list[str]) -> Matrix:
    rows, _ = encoder.tokenize(texts)
    found = np.empty((len(rows), encoder.dimensions), np.float32)
    for group in encoder.groups([len(row) for row in rows], TOKENS):
        found[group] = encoder.run([rows[i] for i in group])
    return unit_rows(found)


def main(files: list[Path], output: Path) -> None:
    texts = [text for file in files for text in texts_in(file, 0)]
    others = [text for file in files for text in texts_in(file, 1)]
    reference = load(BUNDLED_MODEL, "float32")
    quantize_folder(reference, texts, output, session_of)
    cosines = np.einsum("ij,ij->i", vectors(reference, others), vectors(load(BUNDLED_MODEL, "int8"), others))
    print(
        orjson.dumps(
            {
                "bench": "calibration", "texts": len(texts),
                "cosine_mean": round(float(cosines.mean()), 4), "cosine_least": round(float(cosines.min()), 4),
            }
        ).decode()
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=BUNDLED_RANGES)
    arguments = parser.parse_args()
    main(arguments.files, arguments.output)
