"""Never pay twice: unique texts within a batch, single flight across batches and processes, few cache reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio

from streamer.core.reading import EMPTY, clean_text, is_blank
from streamer.core.vectors import Purpose, Space, cache_keys
from streamer.protocols import Claims, Embedder, Embedding, Rejection, VectorCache
from streamer.telemetry.histogram import STEP_SECONDS, Histogram

POLL_SECONDS = 0.02  # until a text that another process asks for is looked up, and half as long again each time
LONGEST_POLL_SECONDS = 0.25
PATIENCE_SECONDS = 30.0  # with another process, which may be stopped; then the text is paid for a second time


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Texts asked for since the start, by where their result came from."""

    texts_total: int = field(metadata={"help": "Texts asked for."})
    repeats_total: int = field(metadata={"help": "Texts that an earlier text of the same batch equals."})
    joined_total: int = field(metadata={"help": "Texts that waited for the call of another batch."})
    hits_total: int = field(metadata={"help": "Texts found in the cache."})
    misses_total: int = field(metadata={"help": "Texts sent to the provider."})


@dataclass(slots=True)
class _Flight:
    """The texts one call is embedding right now; later calls that need one of them wait here instead of paying."""

    done: anyio.Event = field(default_factory=anyio.Event)
    results: dict[bytes, Embedding | Rejection] = field(default_factory=dict)


class CachedEmbedder:
    """An Embedder around an Embedder: prepares each text once and asks for each distinct text once.

    `claims`: of the processes that share the cache. `look_up_seconds`: how long looking into the cache took.
    """

    def __init__(self, embedder: Embedder, cache: VectorCache | None, claims: Claims | None = None) -> None:
        self._embedder = embedder
        self._cache = cache
        self._claims = claims if cache else None
        self._flights: dict[bytes, _Flight] = {}
        self.look_up_seconds = Histogram(STEP_SECONDS)
        self._texts = self._repeats = self._joined = self._hits = self._misses = 0

    @property
    def space(self) -> Space:
        return self._embedder.space

    def statistics(self) -> CacheStatistics:
        return CacheStatistics(self._texts, self._repeats, self._joined, self._hits, self._misses)

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
        """Result i belongs to texts[i]; every occurrence but the one that was paid for is marked as a cache hit. A text
        in which nothing can be seen is rejected: all of those would get the same vector."""
        read = texts if all(map(str.isascii, texts)) else [clean_text(text) for text in texts]
        if not any_blank(read):
            return await self._embed(read, purpose)
        results = iter(await self._embed([text for text in read if not is_blank(text)], purpose))
        return [Rejection("empty_text", EMPTY, attempts=0) if is_blank(text) else next(results) for text in read]

    async def _embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
        prepared = self.space.prepare_all(texts, purpose)
        keys = cache_keys(prepared, purpose)
        distinct = dict(zip(keys, prepared, strict=True))
        self._texts += len(texts)
        self._repeats += len(texts) - len(distinct)
        paid: set[bytes] = set()
        results: dict[bytes, Embedding | Rejection] = {}
        pause = POLL_SECONDS
        claimed_since: float | None = None  # by another process: when that was first found
        while len(results) < len(distinct):
            # A flight that failed or was cancelled left no result: its texts are ours to ask for now.
            wanted = {key: text for key, text in distinct.items() if key not in results} if results else distinct
            # Own texts first: waiting for another call before finishing ours could make two calls wait for each other.
            elsewhere = {key: flight for key in wanted if (flight := self._flights.get(key))} if self._flights else {}
            mine = {key: text for key, text in wanted.items() if key not in elsewhere} if elsewhere else wanted
            if mine:
                patient = claimed_since is None or anyio.current_time() < claimed_since + PATIENCE_SECONDS
                results.update(await self._fly(mine, purpose, paid, self._claims if patient else None))
            for key, flight in elsewhere.items():
                await flight.done.wait()
                if key in flight.results:
                    self._joined += 1
                    results[key] = _as_hit(flight.results[key])
            if len(results) < len(distinct) and not mine.keys() <= results.keys():
                claimed_since = claimed_since or anyio.current_time()
                await anyio.sleep(pause)
                pause = min(1.5 * pause, LONGEST_POLL_SECONDS)
        if len(paid) == len(keys):  # each once, and none from anywhere else
            return [results[key] for key in keys]
        return [self._occurrence(results[key], key, paid) for key in keys]

    async def _fly(
        self, texts: dict[bytes, str], purpose: Purpose, paid: set[bytes], claims: Claims | None
    ) -> dict[bytes, Embedding | Rejection]:
        """The results of these texts, but for those that another process has claimed and not stored yet.

        Nothing is claimed while waiting for what others have claimed, so that two processes never wait for each other.
        """
        flight = _Flight()
        self._flights.update(dict.fromkeys(texts, flight))
        claimed: Sequence[bytes] = ()
        try:
            missing = await self._look_up(list(texts), flight)
            if missing and claims:
                claimed = await claims.claim(missing)
                # Stored between the look and the claim?
                missing = await self._look_up(claimed, flight)
            self._misses += len(missing)
            if missing:
                answers = await self._embedder.embed([texts[key] for key in missing], purpose)
                fresh = dict(zip(missing, answers, strict=True))
                flight.results.update(fresh)
                paid.update(missing)
                flight.done.set()  # those who wait need not wait for the disk
                if self._cache:
                    await self._cache.put_many({k: e for k, e in fresh.items() if isinstance(e, Embedding)})
        finally:
            flight.done.set()
            for key in texts:
                del self._flights[key]
            if claims:
                claims.unclaim(claimed)
        return flight.results

    async def _look_up(self, keys: Sequence[bytes], flight: _Flight) -> Sequence[bytes]:
        """The keys that the cache does not have; the others are results of the flight."""
        if not self._cache or not keys:
            return keys
        begun = anyio.current_time()
        found = await self._cache.get_many(keys)
        self.look_up_seconds.observe(anyio.current_time() - begun)
        flight.results.update({key: _as_hit(embedding) for key, embedding in found.items()})
        self._hits += len(found)
        return [key for key in keys if key not in found]

    def _occurrence(self, result: Embedding | Rejection, key: bytes, paid: set[bytes]) -> Embedding | Rejection:
        if key in paid:
            paid.discard(key)
            return result
        return _as_hit(result)


def any_blank(texts: Sequence[str]) -> bool:
    """Whether nothing can be seen in one of them."""
    firsts = "".join([text[:1] for text in texts])
    if len(firsts) == len(texts) and firsts.isascii() and firsts.isalnum():
        return False  # nearly always, and twice as fast
    return any(map(is_blank, texts))


def _as_hit(result: Embedding | Rejection) -> Embedding | Rejection:
    if isinstance(result, Embedding) and not result.cache_hit:
        return replace(result, cache_hit=True)
    return result
