"""A sentence encoder that onnxruntime runs as it was exported, and what is known of it beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamer.adapters.providers.model_folder import revision
from streamer.adapters.providers.packing import packed
from streamer.core.reading import well_formed
from streamer.core.vectors import Matrix
from streamer.errors import ConfigurationError, RejectedError, RetriableError, quoted

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHARACTERS_PER_TOKEN = 64  # only if a text's first `max_tokens` times as many do not fill the context, all are read


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is known of a model before its weights are loaded.

    `files`: all that are read and change a vector, weights first. `precision` is that of the stored weights, "" if
    unknown. `reads_first_token`: a text's vector is its first token's, not the mean of all. `heads` of its attention, 0
    if unknown. `ranges`: the file with what computing in integers takes, None without one.
    """

    model: str
    files: Sequence[Path]
    tokenizer: Tokenizer
    precision: str
    max_tokens: int
    reads_first_token: bool = False
    heads: int = 0
    ranges: Path | None = None


class SentenceEncoder:
    """A loaded model. Any number of threads may use it at the same time.

    Raises ConfigurationError when the weights are no sentence encoder: one text goes through them right away.
    """

    groups = staticmethod(packed)
    """How texts are divided among runs, by their tokens: see `packing`."""

    def __init__(self, description: Description, session_of: Callable[[str], Any]) -> None:
        self.description = description
        self.model = description.model
        self.precision = description.precision
        self.max_tokens = description.max_tokens
        self.revision = revision(description.files)
        self._tokenizer = description.tokenizer
        # Exported tokenizers often pad and cut, to lengths of their own.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        try:
            self._session = session_of(str(description.files[0]))
            rows, _ = self.tokenize(["one text"])
            [vector] = self.run(rows)
            [self.dimensions] = vector.shape
        except Exception as exc:
            raise ConfigurationError(f"provider.model: {description.files[0]} cannot be used: {exc}") from exc

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        encodings = self._tokenizer.encode_batch_fast([well_formed(t) for t in texts], add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Per text: the ids that the model reads, frame included, and whether they leave some of the text out."""
        limit = self.max_tokens - self._tokenizer.num_special_tokens_to_add(False)
        head = CHARACTERS_PER_TOKEN * self.max_tokens
        heads = [well_formed(text[:head]) for text in texts]
        rows, truncated = [], []
        for text, found in zip(texts, self._tokenizer.encode_batch_fast(heads, add_special_tokens=False), strict=True):
            encoding = found
            # The last tokens of a head depend on where it was cut. With twice as many as are needed those do not
            # matter; with fewer (blanks, one endless word) they do.
            if len(text) > head and len(encoding) < 2 * limit:
                encoding = self._tokenizer.encode(well_formed(text), add_special_tokens=False)
            truncated.append(len(encoding) > limit)
            encoding.truncate(limit)
            rows.append(self._tokenizer.post_process(encoding).ids)
        return rows, truncated

    def run(self, rows: Sequence[Sequence[int]]) -> Matrix:
        """Vectors of a few tokenised texts, as the model gives them, padded to the longest text.

        Raises RetriableError when memory is short and RejectedError when the model fails on these texts.
        """
        shape = (len(rows), max(map(len, rows)))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        offered = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros(shape, np.int64)}
        try:
            inputs = {node.name: offered[node.name] for node in self._session.get_inputs()}
            hidden = self._session.run(None, inputs)[0]
        except Exception as exc:
            raise failed(self.model, exc) from exc
        if self.description.reads_first_token:
            first: Matrix = hidden[:, 0]
            return first
        mean: Matrix = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32)) / mask.sum(1, dtype=np.float32)[:, None]
        return mean


def failed(model: str, exc: Exception) -> RetriableError | RejectedError:
    """What a failed run means. The runtime's exceptions have no common class, and none of them means memory."""
    if isinstance(exc, MemoryError) or "alloc" in str(exc):
        return RetriableError(f"not enough memory to run {model}")
    return RejectedError(f"{model} fails on this: {quoted(str(exc))}")
