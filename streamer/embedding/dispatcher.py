"""Texts to checked unit vectors through an unreliable, limited provider: plan, call, retry, bisect, give up."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from math import inf
from typing import Any, cast

import anyio

from streamer.core.vectors import Purpose, Space
from streamer.core.vendors import CALLS_AT_ONCE
from streamer.embedding.answer_check import InvalidAnswer
from streamer.embedding.backoff import BackoffPolicy
from streamer.embedding.budget import Budget
from streamer.embedding.contracts import Contract
from streamer.embedding.gate import Gate
from streamer.embedding.overlong import OverlongTexts
from streamer.embedding.planning import TokenEstimator, plan
from streamer.embedding.provider_calls import DispatchStatistics, ProviderCalls, TimedOut
from streamer.embedding.quota import Quota
from streamer.embedding.request_caps import RequestCaps
from streamer.embedding.text_batch import TextBatch, halves
from streamer.errors import DeadLetterKind, ProviderBlocked, RateLimited, RejectedError, RetriableError
from streamer.protocols import Embedding, Provider, Rejection, SharedQuota
from streamer.telemetry.histogram import Histogram
from streamer.telemetry.tracing import Tracing
from streamer.telemetry.waiting import Waiting

LONGEST_BACKOFF = 8.0  # seconds: the end of an outage or of a block is noticed within this time
HALVE_AFTER = 4  # failures: is it the request and not the provider?
DOUBTFUL_AFTER = 3  # failures in a row of a single text: do others succeed?
HOPELESS_AFTER = 8  # failures in a row of a single text
CONTROLS = 2  # trivial texts that must succeed between its failures before it is given up
PATIENT_UNTIL = 4  # attempts whose waits grow, for a text that fails while others succeed: that is no outage
INVALID_AFTER = 3  # unusable vectors for a single text
TOO_LONG = ("too_long", "too_large")


class Dispatcher:
    """An Embedder around a Provider; one per process and account, shared by all who embed there.

    `embed` returns when every text has its vector or the reason why it never will. Outages, spent quotas, limits and
    vectors of another length than before are waited out, however long they take; `state` tells of them meanwhile.

    No text is given up for what the provider says before a trivial text, with the same options, has got its vector:
    what refuses everything is not a text's fault.

    `limits`: the account's, by default those that the contract publishes. `concurrency`: the most calls open at once.
    `timeout`: seconds for one call; while one request keeps running into it, it doubles up to eightfold. A local model
    has one call at a time without a timeout unless told otherwise. `probing`: when to look whether a blocked account
    works again. `count_tokens`: the model's tokenizer, if at hand. `random`: uniform in [0, 1). `budget`: what may be
    spent. `shared`: keeps the limits for all processes of the account.

    `give_up_after`: seconds, for a person who is waiting. A blocked account or a spent budget then raises
    ProviderBlocked at once, and a longer outage the RetriableError of the last call; rate limits are still waited out.
    """

    def __init__(
        self,
        provider: Provider,
        contract: Contract,
        *,
        limits: Quota | None = None,
        concurrency: int | None = None,
        timeout: float | None = 60.0,
        backoff: BackoffPolicy | None = None,
        probing: BackoffPolicy | None = None,
        give_up_after: float | None = None,
        count_tokens: Callable[[Sequence[str]], Sequence[int]] | None = None,
        budget: Budget | None = None,
        shared: SharedQuota | None = None,
        random: Callable[[], float] = random_module.random,
        tracing: Tracing | None = None,
    ) -> None:
        self._provider = provider
        self._backoff = backoff or BackoffPolicy(maximum=LONGEST_BACKOFF)
        self._random = random
        quota = limits or Quota(
            requests_per_minute=contract.requests_per_minute,
            tokens_per_minute=contract.tokens_per_minute,
            items_per_minute=contract.items_per_minute,
        )
        self._gate = Gate(
            quota,
            concurrency=concurrency or (1 if contract.is_local else CALLS_AT_ONCE),
            backoff=self._backoff,
            pausing=backoff or BackoffPolicy(),
            probing=probing or BackoffPolicy(initial=LONGEST_BACKOFF, maximum=LONGEST_BACKOFF),
            waits_when_blocked=give_up_after is None,
            budget=budget,
            shared=shared,
            random=random,
        )
        self._give_up_after = inf if give_up_after is None else give_up_after
        # A model in this process has no caps on tokens, and counts them anyway when its turn comes.
        self._estimator = TokenEstimator(None if contract.is_local else count_tokens)
        self._caps = RequestCaps(contract, quota, budget.request_tokens() if budget else inf)
        self._overlong = OverlongTexts(contract, provider.space, count_tokens)
        self._calls = ProviderCalls(
            provider,
            contract,
            gate=self._gate,
            caps=self._caps,
            overlong=self._overlong,
            estimator=self._estimator,
            timeout=None if contract.is_local else timeout,
            tracing=tracing,
        )

    @property
    def space(self) -> Space:
        return self._provider.space

    def state(self) -> str | None:
        """None when all is well, else `rate limited ...`, `blocked: ...`, `spend limit reached ...` or `down: ...`."""
        return waiting.text if (waiting := self.waiting()) else None

    def waiting(self) -> Waiting | None:
        """The same, as one word and with its end."""
        return self._gate.waiting() or self._calls.silence()

    def statistics(self) -> DispatchStatistics:
        return self._calls.statistics

    def times(self) -> dict[str, Histogram]:
        """How long calls waited for their turn, and then for their answers, in seconds."""
        return {"limit_wait": self._calls.limit_wait, "provider": self._calls.answer_seconds}

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
        batch = TextBatch(texts, purpose, self._estimator)
        fitting, doubtful, overlong = self._overlong.sort(batch)
        groups = plan(batch.tokens[fitting], batch.sizes[fitting], self._caps.current())
        await _run_all(
            [
                *(partial(self._resolve, batch, [fitting[i] for i in group.tolist()]) for group in groups),
                *(partial(self._resolve_one, batch, place) for place in doubtful),
                *(partial(self._shorten, batch, place, "longer than the model reads") for place in overlong),
            ]
        )
        return cast("list[Embedding | Rejection]", batch.outcomes)

    async def _resolve(self, batch: TextBatch, places: list[int]) -> None:
        """See to it that each of these texts has an outcome, in as few calls as possible."""
        failures = attempt = timeouts = 0
        provider_is_sound = False
        size = max(2, len(places))
        while len(places) > 1:
            part, rest = places[:size], places[size:]
            before = self._calls.successes(batch.purpose)
            try:
                bad, overlong = await self._calls.ask(batch, part, attempt=attempt, timeouts=timeouts)
            except (RateLimited, ProviderBlocked) as error:
                await self._raise_when_overdue(batch, error)
                continue
            except RetriableError as error:
                await self._raise_when_overdue(batch, error)
                failures += 1
                attempt += 1
                timeouts += isinstance(error, TimedOut)
                if failures < HALVE_AFTER:
                    continue
                if size > 2 or not provider_is_sound:
                    # Perhaps a text or the size makes the provider fail, so fewer and other ones go next. In an outage
                    # that makes no difference; otherwise those that succeed narrow the search.
                    provider_is_sound = size == 2 and await self._calls.is_sound(batch.purpose)
                    places, size = rest + part, max(2, size // 2)
                    continue
                await _run_all([partial(self._resolve_one, batch, place) for place in part])
            except (RejectedError, InvalidAnswer) as error:
                if not self._is_cleared(batch, part, before) and not await self._calls.is_sound(batch.purpose):
                    continue
                await self._bisect(batch, part, error)
            else:
                batch.doubted_at.update(dict.fromkeys(bad, before))
                await _run_all(
                    [
                        *(partial(self._resolve_one, batch, place, invalid_answers=1) for place in bad),
                        *(partial(self._shorten, batch, place, "longer than the model reads") for place in overlong),
                    ]
                )
            places, size, attempt, provider_is_sound = rest, 2 * size, 0, False
        if places:
            await self._resolve_one(batch, places[0])

    async def _bisect(self, batch: TextBatch, places: list[int], error: Exception) -> None:
        parts = halves(places)
        await _run_all([partial(self._resolve, batch, part) for part in parts])
        if isinstance(error, RejectedError) and all(isinstance(batch.outcomes[place], Embedding) for place in places):
            self._caps.refused(len(parts[1]), float(batch.tokens[parts[1]].sum()), str(error))

    async def _resolve_one(self, batch: TextBatch, place: int, invalid_answers: int = 0) -> None:
        """The same for a single text. `invalid_answers`: how often its vector was unusable before."""
        failures = timeouts = controls = 0
        kind: DeadLetterKind
        while True:
            before = self._calls.successes(batch.purpose)
            attempt = min(failures, PATIENT_UNTIL) if controls else failures
            try:
                _, overlong = await self._calls.ask(batch, [place], attempt=attempt, timeouts=timeouts)
            except (RateLimited, ProviderBlocked) as error:
                await self._raise_when_overdue(batch, error)
                continue
            except RetriableError as error:
                await self._raise_when_overdue(batch, error)
                failures += 1
                timeouts += isinstance(error, TimedOut)
                if failures < DOUBTFUL_AFTER:
                    continue
                if failures < HOPELESS_AFTER or controls < CONTROLS:
                    controls = controls + 1 if await self._calls.is_sound(batch.purpose) else 0
                    continue
                self._reject(batch, place, "rejected", f"fails each time while other texts succeed: {error}")
                return
            except RejectedError as error:
                kind, reason = error.kind, str(error)
            except InvalidAnswer as error:
                invalid_answers += 1
                kind, reason = "invalid_vector", str(error)
                if invalid_answers < INVALID_AFTER:
                    await self._pause(invalid_answers)
                    continue
            else:
                if overlong:
                    await self._shorten(batch, place, "longer than the model reads")
                return
            if self._is_cleared(batch, [place], before):
                if kind not in TOO_LONG:
                    self._reject(batch, place, kind, reason)
                    return
            # If it is, it must refuse the text once more: this refusal may date from when it was not.
            elif not await self._calls.is_sound(batch.purpose) or kind not in TOO_LONG:
                continue
            await self._shorten(batch, place, reason)
            return

    async def _shorten(self, batch: TextBatch, place: int, reason: str) -> None:
        """Deal with a text that the model does not read whole, as the space's policy says."""
        text = batch.texts[place]
        if self._overlong.policy == "truncate" and (shorter := self._overlong.shortened(text)) is not None:
            batch.shorten(place, shorter)
            await self._resolve_one(batch, place)
        elif self._overlong.policy == "chunk" and (parts := self._overlong.parts(text, batch.purpose)) is not None:
            outcomes = await self.embed(parts, batch.purpose)
            embeddings = [outcome for outcome in outcomes if isinstance(outcome, Embedding)]
            if len(embeddings) == len(parts):
                batch.outcomes[place] = self._overlong.combined(parts, embeddings)
            else:
                batch.outcomes[place] = next(outcome for outcome in outcomes if isinstance(outcome, Rejection))
        else:
            self._reject(batch, place, "too_long", reason)

    async def _raise_when_overdue(self, batch: TextBatch, error: RetriableError) -> None:
        """Raise the error once it has been `give_up_after` seconds since the first failure, unless a trivial text gets
        its vector: that is no outage, and begins them anew."""
        if isinstance(error, RateLimited) or self._give_up_after == inf:
            return
        now = anyio.current_time()
        batch.failing_since = min(batch.failing_since, now)
        if isinstance(error, ProviderBlocked):
            raise error
        if now - batch.failing_since >= self._give_up_after:
            if not await self._calls.is_sound(batch.purpose):
                raise error
            batch.failing_since = inf

    def _is_cleared(self, batch: TextBatch, places: list[int], before: int) -> bool:
        """Whether the provider is not to blame for a refusal of these texts: another call was answered since it first
        refused one of them, and it refused again afterwards. `before`: calls answered when the last one began.
        """
        now = self._calls.successes(batch.purpose)
        for place in places:
            batch.doubted_at.setdefault(place, now)
        return all(batch.doubted_at[place] < before for place in places)

    def _reject(self, batch: TextBatch, place: int, kind: DeadLetterKind, reason: str) -> None:
        batch.outcomes[place] = Rejection(kind, reason, int(batch.attempts[place]))
        self._calls.rejected()

    async def _pause(self, failures: int) -> None:
        await anyio.sleep(self._backoff.delay(failures - 1, jitter=self._random()))


async def _run_all(jobs: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Run all, side by side. The first error cancels the others and comes out as itself, not as a group."""
    if len(jobs) < 2:
        for job in jobs:
            await job()
        return
    try:
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(job)
    except ExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group
