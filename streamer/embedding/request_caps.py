"""What one request may hold: the contract's word, the quota's shape, and what the provider turned out to accept."""

from __future__ import annotations

from math import inf

from streamer.embedding.contracts import Contract
from streamer.embedding.planning import Caps
from streamer.embedding.quota import Quota

GROWTH = 1.01  # of a learned cap, per request that came close to it and was accepted


class RequestCaps:
    """Caps that shrink when a request is refused for its size alone, and creep back while requests are accepted.

    `most_tokens`: what the budget allows for one request.
    """

    def __init__(self, contract: Contract, quota: Quota, most_tokens: float = inf) -> None:
        self._contract = contract
        self._quota = quota
        self._most_tokens = most_tokens
        self._items = inf
        self._tokens = inf

    def current(self) -> Caps:
        contract = self._contract
        return Caps(
            items=max(1.0, min(contract.max_items or inf, self._items)),
            tokens=min(
                contract.max_request_tokens or inf, self._tokens, self._quota.request_tokens(), self._most_tokens
            ),
            bytes=contract.max_request_bytes or inf,
        )

    def refused(self, items: int, tokens: float, reason: str) -> None:
        """A request was refused although each of its texts is fine; in parts of this size it was accepted.

        Which cap it was over is in the vendor's words, if anywhere. A wrong guess corrects itself: the next request of
        that kind is refused as well.
        """
        if "token" in reason.lower():
            self._tokens = min(self._tokens, tokens)
        else:
            self._items = min(self._items, float(items))

    def accepted(self, items: int, tokens: float) -> None:
        if items >= 0.9 * self._items:
            self._items *= GROWTH
        if tokens >= 0.9 * self._tokens:
            self._tokens *= GROWTH
