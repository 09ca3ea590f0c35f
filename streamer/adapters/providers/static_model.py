"""A static model: a vector for each token, and a text's vector is the mean of its tokens'. No network of layers.

What it reads are the folders that model2vec and sentence-transformers (`StaticEmbedding`) save; see
https://github.com/MinishLab/model2vec for how such models are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamer.adapters.providers.model_folder import json_object, model_folder, revision
from streamer.core.reading import well_formed
from streamer.core.vectors import Matrix
from streamer.errors import ConfigurationError, MissingExtra

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_TOKENS = 512  # what model2vec reads of a text where the folder says nothing
CHARACTERS_PER_TOKEN = 64  # a text's first `max_tokens` times as many are looked at, and all of it if they give too few
TOKENS_AT_ONCE = 16_384  # so that the rows of a big batch are never all in memory: 16 MB at 256 dimensions
TABLES = ("embeddings", "embedding.weight")  # model2vec's name for it, and that of sentence-transformers


class StaticModel:
    """Rows of vectors by token, and the tokenizer that goes with them. Any number of threads may use it.

    `table`: (rows, dimensions) of any number type. `mapping`: the row of each token id, where tokens share rows.
    `weights`: a factor for each token id.

    Raises ConfigurationError when the parts do not fit together.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Tokenizer,
        table: NDArray[np.generic],
        *,
        mapping: NDArray[np.integer] | None = None,
        weights: NDArray[np.floating] | None = None,
        max_tokens: int = MAX_TOKENS,
        revision: str = "",
    ) -> None:
        self.model, self.max_tokens, self.revision = name, max_tokens, revision
        self.precision = table.dtype.name
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        vocabulary = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        if table.ndim != 2 or not table.size:
            raise ConfigurationError(
                f"provider.model: the vectors of {name} have the shape {table.shape}, not two axes"
            )
        for what, part in (("vectors", table if mapping is None else mapping), ("weights", weights)):
            if part is not None and len(part) < vocabulary:
                raise ConfigurationError(f"provider.model: {name} has {len(part)} {what} for {vocabulary} tokens")
        if mapping is not None and (mapping.min() < 0 or mapping.max() >= len(table)):
            raise ConfigurationError(f"provider.model: {name} maps tokens to vectors that it does not have")
        self._table, self._mapping, self._weights = table, mapping, weights
        self.dimensions = int(table.shape[1])
        self._unknown = self._unknown_token()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, however long, unknown words included."""
        encodings = self._tokenizer.encode_batch_fast([well_formed(t) for t in texts], add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Per text: the ids of its first `max_tokens` tokens, and whether they leave some of the text out."""
        head = CHARACTERS_PER_TOKEN * self.max_tokens
        heads = [well_formed(text[:head]) for text in texts]
        rows, truncated = [], []
        for text, found in zip(texts, self._tokenizer.encode_batch_fast(heads, add_special_tokens=False), strict=True):
            ids = found.ids
            if len(text) > head and len(ids) < 2 * self.max_tokens:  # where the head was cut may matter
                ids = self._tokenizer.encode(well_formed(text), add_special_tokens=False).ids
            rows.append(ids[: self.max_tokens])
            truncated.append(len(ids) > self.max_tokens)
        return rows, truncated

    def run(self, rows: Sequence[Sequence[int]], into: Matrix) -> None:
        """The mean vector of each row of token ids, written to `into`, (rows, at most `dimensions`) float32.

        Unknown tokens do not count. A row without any other is zero: there is nothing to say about it. A row's vector
        does not depend on the rows beside it.
        """
        start = 0
        while start < len(rows):
            end, tokens = start, 0
            while end < len(rows) and (end == start or tokens + len(rows[end]) <= TOKENS_AT_ONCE):
                tokens += len(rows[end])
                end += 1
            into[start:end] = self._means(rows[start:end])[:, : into.shape[1]]
            start = end

    def _means(self, rows: Sequence[Sequence[int]]) -> Matrix:
        ids = np.fromiter(chain.from_iterable(rows), np.intp, sum(map(len, rows)))
        ends = np.cumsum([len(row) for row in rows])
        if self._unknown is not None:
            is_known = ids != self._unknown
            ends = np.concatenate(([0], np.cumsum(is_known)))[ends]
            ids = ids[is_known]
        vectors = self._table[ids if self._mapping is None else self._mapping[ids]].astype(np.float32, copy=False)
        if self._weights is not None:
            vectors *= self._weights[ids, None]
        means = np.zeros((len(rows), self.dimensions), np.float32)
        start = 0
        # One sum after the other: `reduceat` over all of them takes eight times as long (numpy 2.4).
        for mean, end in zip(means, ends.tolist(), strict=True):
            if end > start:
                np.add.reduce(vectors[start:end], axis=0, out=mean)
                mean /= end - start
            start = end
        return means

    def _unknown_token(self) -> int | None:
        token = getattr(self._tokenizer.model, "unk_token", None)
        return None if token is None else self._tokenizer.token_to_id(token)


def load(model: str) -> StaticModel:
    """Read a folder with `model.safetensors`, `tokenizer.json` and, of model2vec's making, `config.json`; the files may
    lie in `0_StaticEmbedding` as well. The folder's name is the model's.

    Raises MissingExtra, and ConfigurationError with the path when the folder, a file or what is in it is wrong.
    """
    try:
        from safetensors import SafetensorError, safe_open
        from tokenizers import Tokenizer
    except ImportError as exc:
        raise MissingExtra(exc.name or "safetensors", "static") from None
    folder = model_folder(model)
    inner = folder / "0_StaticEmbedding"
    place = model_folder(str(inner if inner.is_dir() else folder), "model.safetensors", "tokenizer.json")
    weights_file, pieces = place / "model.safetensors", place / "tokenizer.json"
    max_tokens = json_object(place / "config.json").get("max_length", MAX_TOKENS) or MAX_TOKENS
    if not isinstance(max_tokens, int) or max_tokens < 1:
        raise ConfigurationError(f"provider.model: max_length in {place / 'config.json'} is {max_tokens!r}")
    try:
        with safe_open(weights_file, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    except (OSError, TypeError, SafetensorError) as exc:  # TypeError: a number type that numpy does not have
        raise ConfigurationError(f"provider.model: {weights_file} cannot be used: {exc}") from exc
    table = next((tensors[name] for name in TABLES if name in tensors), None)
    if table is None:
        raise ConfigurationError(
            f"provider.model: {weights_file} has {', '.join(sorted(tensors)) or 'nothing'}, and none of "
            f"{', '.join(TABLES)}: it is not a static model"
        )
    try:
        tokenizer = Tokenizer.from_file(str(pieces))
    except Exception as exc:  # the package raises nothing narrower
        raise ConfigurationError(f"provider.model: {pieces} cannot be used: {exc}") from exc
    return StaticModel(
        Path(folder).resolve().name,
        tokenizer,
        table,
        mapping=tensors.get("mapping"),
        weights=tensors.get("weights"),
        max_tokens=max_tokens,
        revision=revision([weights_file, pieces]),
    )
