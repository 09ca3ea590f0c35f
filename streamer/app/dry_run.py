"""A run that calls no provider, commits nothing and publishes nothing: what a worker would do with some records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio

from streamer.adapters.kafka.recent import RecentRecords, read_last
from streamer.adapters.projection_file import load_projection
from streamer.app.caches import open_caches
from streamer.app.connection import connection_of
from streamer.app.forecast import delays_for, model_for
from streamer.app.providers import contract_of, open_provider, remote_space
from streamer.app.spending import price_for
from streamer.core.decoding import Decoder
from streamer.core.events import Record
from streamer.core.vectors import Space
from streamer.embedding.contracts import Contract
from streamer.embedding.prices import Price
from streamer.forecast.dry_run import Decoded, DryRun, decode, dry_run, keys_of
from streamer.settings import Settings


@dataclass(frozen=True, slots=True)
class Dry:
    """What came of it, and what it rests on. `is_exact`: tokens are counted by the model's tokenizer."""

    run: DryRun
    price: Price | None
    is_exact: bool


async def recent_records(settings: Settings, topic: str, count: int) -> RecentRecords:
    """The last records of a topic. Raises Unreachable."""
    return await read_last(
        connection_of(settings),
        topic,
        count,
        group_id=settings.kafka.group_id,
        isolation_level=settings.isolation_level,
    )


def decoded_by(settings: Settings, records: Iterable[tuple[str, Record]]) -> Decoded:
    """Records with their places, as a worker with these settings reads them."""
    reading = settings.input
    return decode(records, Decoder(reading.format, reading.text_field, reading.id_field, reading.key_field))


async def try_out(settings: Settings, decoded: Decoded, answer_seconds: float | None) -> Dry:
    """`answer_seconds`: of a request, None: as we assume. Raises ConfigurationError for a model that is not known."""
    async with _model(settings) as (contract, space, count):
        delays = delays_for(settings, contract, space.dimensions, answer_seconds)
        model = model_for(settings, contract, space, delays, count)
        cached = await _cached(settings, space, keys_of(decoded.events, model))
        price = price_for(settings, contract)
        return Dry(dry_run(decoded, model, price, cached), price, is_exact=count is not None)


_Model = tuple[Contract, Space, Callable[[Sequence[str]], Sequence[int]] | None]


@asynccontextmanager
async def _model(settings: Settings) -> AsyncIterator[_Model]:
    """A model in this process is loaded for its tokenizer. For a service, neither its package nor a key is needed."""
    contract = contract_of(settings)
    if contract.is_local:
        async with open_provider(settings) as opened:
            yield opened.contract, opened.provider.space, opened.count_tokens
        return
    space = remote_space(settings, contract)
    if (path := settings.provider.reduction) is not None:
        projection = load_projection(path)
        space = replace(space, dimensions=len(projection.axes), reduction=f"pca-{projection.fingerprint}")
    yield replace(contract, dimensions=space.dimensions), space, None


async def _cached(settings: Settings, space: Space, texts: dict[bytes, str]) -> list[str]:
    """Those texts that the cache has. A file that is not there is not begun."""
    path = settings.cache.path
    if path is not None and not await anyio.Path(path).exists():
        without = settings.cache.model_copy(update={"path": None})
        settings = settings.model_copy(update={"cache": without})
    async with open_caches(settings, space) as caches:
        cache = caches.together
        return [] if cache is None else [texts[key] for key in await cache.get_many(list(texts))]
