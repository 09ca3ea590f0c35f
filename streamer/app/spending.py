"""What may be spent, and at which price, as the settings say."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import urlsplit

import structlog

from streamer.core.vendors import VENDORS
from streamer.embedding.budget import Budget, SpendLimits
from streamer.embedding.contracts import Contract
from streamer.embedding.prices import Price, price_of
from streamer.errors import ConfigurationError
from streamer.protocols import SpendLedger
from streamer.settings import Settings

log = structlog.get_logger(__name__)


class LedgerStore(Protocol):
    """Where costs are counted. `is_shared`: by all processes on this machine, at least."""

    @property
    def is_shared(self) -> bool: ...

    def ledger(self, account: str) -> SpendLedger: ...


def price_for(settings: Settings, contract: Contract) -> Price | None:
    """What tokens of this model cost; None where nobody knows. A model in this process costs nothing."""
    if contract.is_local:
        return Price(0.0)
    own = settings.provider.price_per_million_tokens
    if own is not None:
        return Price(own)
    return Price(0.0) if contract.billed == "nothing" else price_of(contract.provider, contract.model)


def limits_of(settings: Settings) -> SpendLimits:
    wanted = settings.provider
    return SpendLimits(
        usd_per_day=wanted.max_spend_per_day,
        usd_per_month=wanted.max_spend_per_month,
        usd_total=wanted.max_spend,
        tokens_per_day=wanted.max_tokens_per_day,
        requests_per_day=wanted.max_requests_per_day,
        keeps_total=wanted.budget is not None,
    )


def budget_for(settings: Settings, contract: Contract, store: LedgerStore | None) -> Budget | None:
    """None where nothing is billed, or where there is neither a price nor a limit.

    Raises ConfigurationError for a limit that could not be kept.
    """
    price, limits = price_for(settings, contract), limits_of(settings)
    is_counted = limits.tokens_per_day is not None or limits.requests_per_day is not None
    is_free = price is not None and price.usd_per_million_tokens == 0 and not is_counted
    if contract.is_local or is_free or not (price or limits.any):
        return None
    in_usd = {
        "max_spend_per_day": limits.usd_per_day,
        "max_spend_per_month": limits.usd_per_month,
        "max_spend": limits.usd_total,
    }
    if price is None and (key := next((key for key, most in in_usd.items() if most is not None), None)):
        raise ConfigurationError(
            f"provider.{key}: the price of {contract.provider} {contract.model} is not known; set "
            "provider.price_per_million_tokens in US dollars, or limit tokens with provider.max_tokens_per_day"
        )
    if limits.any and store is None:
        raise ConfigurationError(
            "a spend limit needs the cache's store, where the count outlives the process: set cache.enabled = true"
        )
    if limits.any and store is not None and not store.is_shared:
        log.warning("spend limits hold for this process alone, since the cache file cannot be shared")
    ledger = None if store is None else store.ledger(budget_name(settings, contract))
    return Budget(ledger, price=price, limits=limits)


def account_of(settings: Settings, contract: Contract) -> str:
    """The name under which costs are counted: the vendor and the host that is asked. Keys are not told apart."""
    row = VENDORS.get(contract.provider)
    url = settings.provider.base_url or (row.default_url if row else "")
    return f"{contract.provider} {urlsplit(url).hostname or ''}".rstrip()


def budget_name(settings: Settings, contract: Contract) -> str:
    """The name in a ledger: that of the account, or one of its own for `provider.budget`."""
    account, budget = account_of(settings, contract), settings.provider.budget
    return account if budget is None else f"{account} {budget}"
