"""What the services charge for embedding text, as data: one row a model, in US dollars for a million tokens.

These are list prices, as the pages named here gave them on the date of their row; a free allowance, a batch or volume
discount and taxes are not in them. A user's own price is `provider.price_per_million_tokens`. What a vendor publishes
no price for stays out.

O: https://developers.openai.com/api/docs/models, the page of the model.
V: https://docs.voyageai.com/docs/pricing, after the 200 million tokens that each account has for nothing.
G: the price of the same model at two gateways that pass list prices on (Vercel AI Gateway, OpenRouter).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from streamer.protocols import Cost

NANO: Final = 1_000_000_000
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens. `as_of`: when it was looked up; empty for a price of the user's own."""

    usd_per_million_tokens: float
    as_of: str = ""

    def cost(self, tokens: float) -> Cost:
        """Of so many tokens, rounded up."""
        whole = ceil(tokens)
        # Micro-dollars a million tokens are a whole number for every price with at most six decimals.
        return Cost(whole, -(-whole * round(self.usd_per_million_tokens * MILLION) // 1000))


_AS_OF: Final = "2026-11-28"
_USD: Final[Mapping[tuple[str, str], float]] = {
    ("openai", "text-embedding-3-small"): 0.02,  # O
    ("openai", "text-embedding-3-large"): 0.13,  # O
    ("openai", "text-embedding-ada-002"): 0.10,  # G
    ("voyage", "voyage-4-large"): 0.12,  # V, G
    ("voyage", "voyage-4"): 0.06,  # V, G
    ("voyage", "voyage-4-lite"): 0.02,  # V, G
    ("voyage", "voyage-3.5"): 0.06,  # V
    ("voyage", "voyage-3.5-lite"): 0.02,  # V, G
    ("voyage", "voyage-3-large"): 0.18,  # V
    ("voyage", "voyage-code-3"): 0.18,  # V
    ("voyage", "voyage-3"): 0.06,  # V
    ("voyage", "voyage-3-lite"): 0.02,  # V
    ("cohere", "embed-v4.0"): 0.12,  # G; Cohere names no price for the models of version 3
}
_PRICES: Final = {key: Price(usd, _AS_OF) for key, usd in _USD.items()}


def price_of(provider: str, model: str) -> Price | None:
    """The list price of a model, by its name in any case; None where none is known."""
    return _PRICES.get((provider, model.casefold()))


def usd(cost: Cost) -> float:
    return cost.nano_usd / NANO


def usd_text(amount: float) -> str:
    """An amount for a person: cents from a dollar on, more digits below."""
    if amount == 0 or amount >= 1:
        return f"{amount:,.2f} USD"
    return f"{amount:.2g} USD" if amount >= 0.0001 else f"{amount:.6f} USD"
