"""What tokens cost."""

from __future__ import annotations

import pytest

from streamer.embedding.contracts import is_known
from streamer.embedding.prices import _PRICES, Price, price_of, usd, usd_text
from streamer.protocols import Cost


def test_every_price_is_of_a_known_model_and_has_a_date() -> None:
    for (provider, model), price in _PRICES.items():
        assert is_known(provider, model), model
        assert price.as_of.startswith("202")


def test_costs_are_whole_and_never_too_low() -> None:
    small = price_of("openai", "text-embedding-3-small")
    assert small is not None
    assert small.cost(1) == Cost(1, 20)
    assert small.cost(1_000_000) == Cost(1_000_000, 20_000_000)
    assert usd(small.cost(1_000_000)) == 0.02
    assert small.cost(1.2).tokens == 2
    assert Price(0.0123).cost(1) == Cost(1, 13)  # rounded up


def test_a_model_is_found_in_any_case_and_an_unknown_one_has_no_price() -> None:
    assert price_of("voyage", "Voyage-4") == price_of("voyage", "voyage-4")
    assert price_of("openai", "my-model") is None


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0.00 USD"), (1234.5, "1,234.50 USD"), (0.0313, "0.031 USD"), (0.00002, "0.000020 USD"), (0.5, "0.5 USD")],
)
def test_amounts_for_a_person(amount: float, text: str) -> None:
    assert usd_text(amount) == text
