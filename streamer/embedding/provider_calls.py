"""One call to the provider: wait for its turn, bound its time, check its answer, keep the books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import Literal, TypeAlias, get_args

import anyio

from streamer.core.vectors import Purpose
from streamer.embedding.answer_check import CheckedAnswer, InvalidAnswer, OtherWidth, check_answer
from streamer.embedding.contracts import Contract
from streamer.embedding.gate import Call, Gate
from streamer.embedding.overlong import OverlongTexts
from streamer.embedding.planning import TokenEstimator
from streamer.embedding.request_caps import RequestCaps
from streamer.embedding.silence import Silence
from streamer.embedding.text_batch import TextBatch
from streamer.errors import ProviderBlocked, RateLimited, RejectedError, RetriableError
from streamer.protocols import Answer, Embedding, Provider
from streamer.telemetry.histogram import STEP_SECONDS, Histogram
from streamer.telemetry.tracing import NoTracing, Tracing, embedded
from streamer.telemetry.waiting import Waiting

LONGEST_TIMEOUT = 8  # times the usual one, doubled each time that it was too short
CONTROL_TEXT = "hello"


class TimedOut(RetriableError):
    """The call took longer than we wait. The provider may have done, and billed, the work."""

    def __init__(self, message: str) -> None:
        super().__init__(message, may_be_billed=True)


# What came of a call: a good answer, the class of an HTTP status, or why there is none.
AnswerStatus: TypeAlias = Literal["ok", "429", "4xx", "5xx", "timeout", "unusable", "unreachable"]


@dataclass(slots=True, kw_only=True)
class DispatchStatistics:
    """Totals since the start, and the calls open now."""

    requests_total: int = field(default=0, metadata={"help": "Calls made to the provider."})
    texts_total: int = field(default=0, metadata={"help": "Texts sent to the provider, repeated ones included."})
    tokens_total: int = field(default=0, metadata={"help": "Tokens billed by the provider."})
    retries_total: int = field(default=0, metadata={"help": "Calls that failed and were made again."})
    rate_limited_total: int = field(default=0, metadata={"help": "Calls that the provider refused for their rate."})
    timeouts_total: int = field(default=0, metadata={"help": "Calls that were not answered in time."})
    rejected_total: int = field(default=0, metadata={"help": "Texts that got no vector."})
    in_flight: int = field(default=0, metadata={"help": "Calls open now."})
    answers_total: dict[AnswerStatus, int] = field(
        default_factory=lambda: dict.fromkeys(get_args(AnswerStatus), 0),
        metadata={"label": "status", "help": "Calls by what came of them."},
    )


class ProviderCalls:
    """Makes calls for the Dispatcher, one per `ask`, and records in the batch what came of it.

    `timeout`: seconds for one call from sending to the last byte; None for no bound. `limit_wait` and `answer_seconds`:
    how long calls waited until they might go out, and then for their answers.
    """

    def __init__(
        self,
        provider: Provider,
        contract: Contract,
        *,
        gate: Gate,
        caps: RequestCaps,
        overlong: OverlongTexts,
        estimator: TokenEstimator,
        timeout: float | None,
        tracing: Tracing | None = None,
    ) -> None:
        self._provider = provider
        self._contract = contract
        self._gate = gate
        self._caps = caps
        self._overlong = overlong
        self._estimator = estimator
        self._timeout = timeout
        self._tracing = tracing or NoTracing()
        self._silence = Silence()
        self._successes: Counter[Purpose] = Counter()
        self._totals = DispatchStatistics()
        self.limit_wait = Histogram(STEP_SECONDS)
        self.answer_seconds = Histogram(STEP_SECONDS)

    @property
    def statistics(self) -> DispatchStatistics:
        return replace(self._totals, in_flight=self._gate.in_flight)

    def successes(self, purpose: Purpose) -> int:
        """Calls for this purpose, and hence with these options, that were answered with vectors."""
        return self._successes[purpose]

    def rejected(self) -> None:
        """A text was given up."""
        self._totals.rejected_total += 1

    async def ask(
        self, batch: TextBatch, places: list[int], *, attempt: int = 0, timeouts: int = 0, is_control: bool = False
    ) -> tuple[list[int], list[int]]:
        """Make one call for these texts and record the embeddings that are fit for use.

        Returns the places whose vectors are unusable, and those whose text was longer than the model reads where the
        policy is not to truncate. Raises what a Provider raises, after the wait that such a failure calls for
        (`attempt` failures came before, `timeouts` of them for lack of time), and InvalidAnswer when the count is
        wrong or a single text's vector is unusable.
        """
        texts = [batch.texts[place] for place in places]
        tokens = float(batch.tokens[places].sum())
        queued = anyio.current_time()
        async with self._gate.admit(tokens, len(places)) as call:
            self.limit_wait.observe(anyio.current_time() - queued)
            batch.attempts[places] += 1
            self._totals.requests_total += 1
            self._totals.texts_total += len(places)
            try:
                answer = await self._traced(call, texts, batch.purpose, timeouts)
                checked = self._checked(answer, len(places))
            except RetriableError as error:
                self._totals.answers_total[_status(error)] += 1
                if isinstance(error, ProviderBlocked) and error.in_doubt and not is_control:
                    self._gate.refused()
                    raise RejectedError(str(error)) from error
                self._totals.retries_total += 1
                self._totals.rate_limited_total += isinstance(error, RateLimited)
                self._totals.timeouts_total += isinstance(error, TimedOut)
                await self._gate.failed(call, error, attempt)
                raise
            except (RejectedError, InvalidAnswer) as error:
                self._totals.answers_total[_status(error)] += 1
                if is_control:
                    blocked = ProviderBlocked(f"the provider rejects even a trivial text: {error}; {_advice(error)}")
                    await self._gate.failed(call, blocked, attempt)
                    raise blocked from error
                self._gate.refused()
                raise
            self._totals.answers_total["ok"] += 1
            billed = _billed(answer)
            self._gate.answered(call, tokens=billed, headers=answer.headers)
        batch.failing_since = inf
        self._successes[batch.purpose] += 1
        self._caps.accepted(len(places), tokens)
        if billed is not None:
            self._totals.tokens_total += billed
            self._estimator.learn(len(places), float(batch.sizes[places].sum()), billed)
        return self._record(batch, places, answer, checked)

    async def is_sound(self, purpose: Purpose) -> bool:
        """Whether a trivial text gets a vector, so that a failing text and not the provider is to blame.

        A refusal of it blocks the provider: what it refuses then is not the texts.
        """
        control = TextBatch([self._provider.space.prepare(CONTROL_TEXT, purpose)], purpose, self._estimator)
        try:
            await self.ask(control, [0], is_control=True)
        except RetriableError:
            return False
        return True

    async def _traced(self, call: Call, texts: list[str], purpose: Purpose, timeouts: int) -> Answer:
        """In a span of its own, by OpenTelemetry's conventions for generative AI."""
        space = self._provider.space
        told = partial(embedded, space.provider, space.model, space.dimensions, len(texts))
        with self._tracing.span(f"embeddings {space.model}", "client", told) as span:
            answer = await self._paid(call, texts, purpose, timeouts)
            if span is not None and (billed := _billed(answer)) is not None:
                span.put({"gen_ai.usage.input_tokens": billed})
            return answer

    async def _paid(self, call: Call, texts: list[str], purpose: Purpose, timeouts: int) -> Answer:
        """The answer, with what it cost put down. What may have been billed without an answer counts as estimated."""
        begun = anyio.current_time()
        self._silence.begins(begun)
        try:
            answer = await self._answer(texts, purpose, timeouts)
        except RetriableError as error:
            self._heard(begun) if error.status is not None else self._silence.failed()
            await self._gate.paid(call, None if error.may_be_billed else 0)
            raise
        except RejectedError:
            self._heard(begun)
            await self._gate.paid(call, 0)
            raise
        except BaseException:
            self._silence.abandoned()
            raise
        finally:
            self.answer_seconds.observe(anyio.current_time() - begun)
        self._heard(begun)
        await self._gate.paid(call, _billed(answer))
        return answer

    def _heard(self, begun: float) -> None:
        now = anyio.current_time()
        self._silence.answered(now - begun, now)

    def silence(self) -> Waiting | None:
        """Calls are open and nothing comes back, for longer than is usual here. A model in this process may take its
        time."""
        silent = None if self._contract.is_local else self._silence.lasts(anyio.current_time())
        return None if silent is None else Waiting("provider_down", f"down: no answer for {silent:.0f} s")

    async def _answer(self, texts: list[str], purpose: Purpose, timeouts: int) -> Answer:
        if self._timeout is None:
            return await self._provider.embed(texts, purpose)
        timeout = self._timeout * min(2**timeouts, LONGEST_TIMEOUT)
        # A bound on the whole call: a body that drips in byte by byte never runs into a read timeout.
        with anyio.move_on_after(timeout):
            return await self._provider.embed(texts, purpose)
        raise TimedOut(f"no answer within {timeout:g} s")

    def _checked(self, answer: Answer, count: int) -> CheckedAnswer:
        dimensions = self._provider.space.dimensions
        checked = check_answer(
            answer.vectors,
            count,
            dimensions,
            matryoshka=self._contract.matryoshka,
            longest=self._contract.native_dimensions,
        )
        if checked.is_good.any():
            return checked
        if count > 1:  # a text can be bad, but not all of them: the provider is in trouble
            unusable = RetriableError(f"none of {count} vectors is of finite, positive length")
            unusable.status = 200
            raise unusable
        raise InvalidAnswer("the vector is not of finite, positive length")

    def _record(
        self, batch: TextBatch, places: list[int], answer: Answer, checked: CheckedAnswer
    ) -> tuple[list[int], list[int]]:
        tokens: Sequence[int]
        if answer.tokens is not None:
            tokens = answer.tokens
        elif len(places) == 1 and answer.billed_tokens is not None:
            tokens = [answer.billed_tokens]
        elif self._estimator.is_exact:
            tokens = batch.tokens[places].astype(int).tolist()
        else:
            tokens = [0] * len(places)
        cut = answer.truncated if answer.truncated is not None else self._cut(batch, places, tokens)
        bad: list[int] = []
        overlong: list[int] = []
        refuses_cut = self._overlong.policy != "truncate"
        rows = zip(places, checked.rows, tokens, cut, checked.is_good.tolist(), strict=True)
        for place, vector, count, was_cut, is_good in rows:
            if not is_good:
                bad.append(place)
            elif was_cut and refuses_cut:
                overlong.append(place)
            else:
                batch.outcomes[place] = Embedding(vector, count, was_cut or place in batch.shortened)
        return bad, overlong

    def _cut(self, batch: TextBatch, places: list[int], tokens: Sequence[int]) -> Sequence[bool]:
        if batch.longest <= self._overlong.limit:
            return [False] * len(places)
        return [self._overlong.was_cut(batch, place, count) for place, count in zip(places, tokens, strict=True)]


def _status(error: Exception) -> AnswerStatus:
    status = getattr(error, "status", None)
    if isinstance(error, RateLimited) or status == 429:
        return "429"
    if isinstance(error, TimedOut):
        return "timeout"
    if isinstance(error, InvalidAnswer) or (status is not None and status < 300):
        return "unusable"
    if status is not None:
        return "5xx" if status >= 500 else "4xx"  # a redirect is a wrong address: nothing but a refusal
    # A refusal without a status is that of a model in this process.
    return "4xx" if isinstance(error, RejectedError | ProviderBlocked) else "unreachable"


def _billed(answer: Answer) -> int | None:
    if answer.billed_tokens is None and answer.tokens is not None:
        return sum(answer.tokens)
    return answer.billed_tokens


def _advice(error: Exception) -> str:
    if isinstance(error, OtherWidth):
        return "is it another model? check provider.model and provider.dimensions"
    return "what it refuses is not the texts: check provider.base_url, provider.model and the options of the request"
