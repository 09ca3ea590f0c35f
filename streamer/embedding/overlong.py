"""What happens to texts that are longer than the model reads: truncate, chunk or reject, as the space says.

Whether a text is too long is certain only with the model's tokenizer at hand. Without it nothing is cut that might have
fitted: a doubtful text is sent whole, in a request of its own, and the provider decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from streamer.core.vectors import Purpose, Space, unit_rows
from streamer.embedding.chunking import cut, typical_tokens, windows
from streamer.embedding.contracts import Contract
from streamer.embedding.planning import SPECIAL_TOKENS
from streamer.embedding.text_batch import TextBatch
from streamer.protocols import Embedding

MOST_BYTES_A_TOKEN = 8  # no ordinary text has more on average, so a text above it is too long for certain
SHRINK = 0.75  # when the provider still finds a text too long that we thought fits


class OverlongTexts:
    """The policy of one space, for the model of one contract."""

    def __init__(
        self, contract: Contract, space: Space, count_tokens: Callable[[Sequence[str]], Sequence[int]] | None
    ) -> None:
        self._contract = contract
        self._space = space
        self._count_tokens = count_tokens
        self.policy = space.on_too_long
        self.limit = max(1, contract.max_item_tokens - SPECIAL_TOKENS)

    def count(self, text: str) -> int:
        """Tokens of a text: exact with a tokenizer, else a usual number."""
        return self._count_tokens([text])[0] if self._count_tokens else typical_tokens(text)

    def sort(self, batch: TextBatch) -> tuple[list[int], list[int], list[int]]:
        """The places of a batch: those that fit, those that may not and had better go alone, those to deal with now."""
        fitting = np.flatnonzero(batch.sizes <= self.limit).tolist()
        if len(fitting) == len(batch.texts):
            return fitting, [], []
        doubtful: list[int] = []
        overlong: list[int] = []
        cuts_itself = self.policy == "truncate" and self._contract.truncation != "never"
        for place in np.flatnonzero(batch.sizes > self.limit).tolist():
            if cuts_itself or self.count(batch.texts[place]) <= self.limit:
                fitting.append(place)
            elif self._is_certain(batch.sizes[place]):
                overlong.append(place)
            else:
                doubtful.append(place)
        return fitting, doubtful, overlong

    def was_cut(self, batch: TextBatch, place: int, tokens: int) -> bool:
        """Whether the provider read only the beginning of this text, if it does not say so itself."""
        if self._contract.truncation == "never" or batch.sizes[place] <= self.limit:
            return False
        return (tokens or self.count(batch.texts[place])) >= self._contract.max_item_tokens

    def shortened(self, text: str) -> str | None:
        """The beginning of a text that was too long; None when there is nothing left to cut."""
        count = self.count(text)
        limit = self.limit if count > self.limit else int(count * SHRINK)
        shorter = cut(text, limit, self.count) if limit >= 1 else text
        return shorter if len(shorter) < len(text) else None

    def parts(self, text: str, purpose: Purpose) -> list[str] | None:
        """A text that was too long in at least two parts, each with the prefix of its purpose; None if that fails."""
        prefix = self._space.prepare("", purpose)
        body = text.removeprefix(prefix)
        count = self.count(body)
        limit = min(self.limit - (self.count(prefix) if prefix else 0), count // 2 + 1)
        parts = windows(body, limit, self.count) if limit >= 1 else []
        return [prefix + part for part in parts] if len(parts) > 1 else None

    def combined(self, parts: Sequence[str], embeddings: Sequence[Embedding]) -> Embedding:
        """The mean of the parts' vectors, weighted by their tokens, at unit length."""
        weights = np.array([e.tokens or self.count(part) for part, e in zip(parts, embeddings, strict=True)])
        mean = weights @ np.stack([e.vector for e in embeddings]).astype(np.float64)
        return Embedding(unit_rows(mean)[0], sum(e.tokens for e in embeddings), truncated=True)

    def _is_certain(self, size: float) -> bool:
        if self._count_tokens is not None or self._contract.truncation == "always":
            return True
        return size > MOST_BYTES_A_TOKEN * self.limit
