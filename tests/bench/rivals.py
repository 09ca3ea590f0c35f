"""The usual ways to find near-duplicates and anomalies, on the same texts and vectors."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix

Scores = NDArray[np.float64]

_PERMUTATIONS = 128


def nearest_cosine(vectors: Matrix) -> Scores:
    """Largest cosine of each with those before it; the first has -1."""
    largest = np.full(len(vectors), -1.0)
    for i in range(1, len(vectors)):
        largest[i] = (vectors[:i] @ vectors[i]).max()
    return largest


def minhash(texts: Sequence[str], shingle: str) -> Scores:
    """Largest estimated Jaccard similarity of each with those before it; shingles of "words" or five "characters"."""
    from datasketch import MinHash

    signatures = np.empty((len(texts), _PERMUTATIONS), np.uint32)
    for i, text in enumerate(texts):
        text = text.lower()
        pieces = set(re.findall(r"\w+", text)) if shingle == "words" else {text[j : j + 5] for j in range(len(text))}
        sketch = MinHash(_PERMUTATIONS)
        sketch.update_batch([piece.encode() for piece in pieces])
        signatures[i] = sketch.hashvalues
    largest = np.zeros(len(texts))
    for i in range(1, len(texts)):
        largest[i] = (signatures[:i] == signatures[i]).sum(axis=1, dtype=np.uint8).max() / _PERMUTATIONS
    return largest


def local_outlier_factor(usual: Matrix, tested: Matrix) -> Scores:
    """LOF of 50 neighbours."""
    from sklearn.neighbors import LocalOutlierFactor

    scores: Scores = -LocalOutlierFactor(n_neighbors=50, novelty=True).fit(usual).score_samples(tested)
    return scores


def isolation_forest(usual: Matrix, tested: Matrix) -> Scores:
    from sklearn.ensemble import IsolationForest

    scores: Scores = -IsolationForest(random_state=0).fit(usual).score_samples(tested)
    return scores


def plain_knn(usual: Matrix, tested: Matrix, k: int = 5) -> Scores:
    """Mean distance to the `k` nearest of a memory that does not change."""
    nearest = np.partition(tested @ usual.T, -k, axis=1)[:, -k:]
    scores: Scores = 1 - nearest.mean(axis=1, dtype=np.float64)
    return scores


def centre(usual: Matrix, tested: Matrix) -> Scores:
    """Distance to the mean, with a covariance shrunk by 0.7 (as much as helps most on these vectors)."""
    mean = usual.mean(axis=0)
    covariance = np.cov(usual.T.astype(np.float64))
    shrunk = 0.3 * covariance + 0.7 * np.trace(covariance) / len(mean) * np.eye(len(mean))
    away = (tested - mean).astype(np.float64)
    distances: Scores = np.sqrt(np.einsum("ij,ij->i", away @ np.linalg.inv(shrunk), away))
    return distances
