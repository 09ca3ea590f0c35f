"""The dispatcher against scripted providers, on a virtual clock. Names such as P1 are those of the fault catalogue."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import log2

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from streamer.embedding.dispatcher import Dispatcher
from streamer.errors import ProviderBlocked, RateLimited, RejectedError, RetriableError, SpaceMismatch
from streamer.protocols import Answer, Embedder, Embedding, Rejection
from tests.embedding.providers import DIMENSIONS, Behaviour, Call, FakeProvider, contract, rows, space, vector_of

pytestmark = pytest.mark.anyio

POISON = "poison"


def dispatcher(provider: FakeProvider, **options: object) -> Dispatcher:
    values = {"random": random.Random(1).random, **options}
    return Dispatcher(provider, values.pop("contract", contract()), **values)  # type: ignore[arg-type]


def texts(count: int, start: int = 0) -> list[str]:
    return [f"text number {i}" for i in range(start, start + count)]


def assert_right(given: Sequence[str], outcomes: Sequence[Embedding | Rejection]) -> None:
    """Each text has its own vector, at unit length."""
    assert len(outcomes) == len(given)
    for text, outcome in zip(given, outcomes, strict=True):
        assert isinstance(outcome, Embedding), (text, outcome)
        expected = vector_of(text)
        np.testing.assert_allclose(outcome.vector, expected / np.linalg.norm(expected), atol=1e-6)
        assert outcome.vector.dtype == np.float32


def failing(times: int, error: Exception) -> Behaviour:
    """The first calls fail."""

    async def behave(call: Call) -> Answer | None:
        if call.number < times:
            raise error
        return None

    return behave


def refusing(*poison: str, error: type[Exception] = RejectedError) -> Behaviour:
    async def behave(call: Call) -> Answer | None:
        if any(text in poison for text in call.texts):
            raise error("bad input")
        return None

    return behave


class TestRequests:
    async def test_no_texts_need_no_call(self) -> None:
        provider = FakeProvider()
        service: Embedder = dispatcher(provider)
        assert service.space is provider.space
        assert list(await service.embed([], "document")) == []
        assert provider.calls == []

    async def test_each_text_gets_its_own_vector(self) -> None:
        provider = FakeProvider()
        given = texts(5000)
        assert_right(given, await dispatcher(provider).embed(given, "document"))
        assert [len(call.texts) for call in provider.calls] == [1667, 1667, 1666]

    async def test_ten_thousand_short_texts_take_the_fewest_requests(self) -> None:
        provider = FakeProvider()
        await dispatcher(provider, contract=contract(max_request_tokens=300_000)).embed(texts(10_000), "document")
        assert len(provider.calls) == 5

    async def test_more_than_a_request_holds_is_split_before_sending(self) -> None:
        async def behave(call: Call) -> None:
            if sum(len(text) for text in call.texts) > 300_000:
                raise RejectedError("too many tokens")

        provider = FakeProvider(behave)
        given = ["x" * 7000 + str(i) for i in range(100)]
        service = dispatcher(provider, contract=contract(max_request_tokens=300_000))
        assert_right(given, await service.embed(given, "document"))
        assert len(provider.calls) == 3
        assert service.statistics().retries_total == 0

    async def test_requests_of_one_batch_go_out_side_by_side_within_the_concurrency(self) -> None:
        provider = FakeProvider(latency=1.0)
        await dispatcher(provider, contract=contract(max_items=10), concurrency=4).embed(texts(120), "document")
        assert provider.most_open_calls == 4
        assert anyio.current_time() == pytest.approx(3.0, abs=0.1)

    async def test_a_local_model_gets_everything_at_once_and_one_call_at_a_time(self) -> None:
        provider = FakeProvider(latency=1000.0)
        service = dispatcher(provider, contract=contract(max_items=None, is_local=True))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.embed, texts(3000), "document")
            tasks.start_soon(service.embed, texts(3000), "document")
        assert [len(call.texts) for call in provider.calls] == [3000, 3000]
        assert provider.most_open_calls == 1

    async def test_reports_of_usage_let_later_requests_hold_more(self) -> None:
        async def behave(call: Call) -> Answer:
            return Answer(rows(call.texts), billed_tokens=sum(len(text) for text in call.texts) // 4)

        provider = FakeProvider(behave)
        service = dispatcher(provider, contract=contract(max_request_tokens=10_000))
        given = ["word " * 50 + str(i) for i in range(400)]
        await service.embed(given, "document")
        first = len(provider.calls)
        await service.embed(given, "document")
        assert first == 11
        assert len(provider.calls) - first == 3

    async def test_vectors_longer_than_the_space_are_cut_if_the_model_is_trained_for_that(self) -> None:
        async def behave(call: Call) -> Answer:
            return Answer(rows(call.texts, DIMENSIONS))

        provider = FakeProvider(behave, space=space(dimensions=4))
        [outcome] = await dispatcher(provider, contract=contract(matryoshka=True)).embed(["a"], "document")
        assert isinstance(outcome, Embedding)
        expected = vector_of("a")[:4]
        np.testing.assert_allclose(outcome.vector, expected / np.linalg.norm(expected), atol=1e-6)

    async def test_tokens_are_those_that_the_provider_tells(self) -> None:
        async def behave(call: Call) -> Answer:
            count = len(call.texts)
            return Answer(rows(call.texts), tokens=list(range(1, count + 1)), truncated=[False] * count)

        service = dispatcher(FakeProvider(behave))
        outcomes = await service.embed(texts(3), "document")
        assert [outcome.tokens for outcome in outcomes if isinstance(outcome, Embedding)] == [1, 2, 3]
        assert service.statistics().tokens_total == 6


class TestTransientFaults:
    async def test_p1_retry_after_holds_back_every_call_on_the_account(self) -> None:
        provider = FakeProvider(failing(1, RateLimited("slow down", retry_after=3.0)))
        service = dispatcher(provider)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.embed, texts(5), "document")
            await anyio.sleep(0.1)
            assert (service.state() or "").startswith("rate limited until ")
            tasks.start_soon(service.embed, texts(5), "document")
        assert provider.calls[0].started == 0.0
        assert all(3.0 <= call.started <= 3.6 for call in provider.calls[1:])
        assert len(provider.calls) == 3
        assert service.state() is None
        assert service.statistics().rate_limited_total == 1

    async def test_p2_without_a_header_the_wait_grows_and_is_spread(self) -> None:
        provider = FakeProvider(failing(8, RateLimited("slow down")))
        given = texts(5)
        assert_right(given, await dispatcher(provider).embed(given, "document"))
        starts = [call.started for call in provider.calls]
        waits = np.diff(starts)
        assert all(0.25 * 2**i <= wait <= 0.5 * 2**i + 0.01 for i, wait in enumerate(waits))

    async def test_p2_an_absurd_wish_blocks_the_account_and_is_probed(self) -> None:
        provider = FakeProvider(failing(2, RateLimited("come back tomorrow", retry_after=86_400.0)))
        service = dispatcher(provider)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.embed, texts(5), "document")
            await anyio.sleep(1)
            assert service.state() == "blocked: come back tomorrow (asks to wait 86400 s)"
        assert service.state() is None
        assert anyio.current_time() < 60

    async def test_p3_a_blocked_account_is_probed_by_one_call_at_a_time_and_resumes_by_itself(self) -> None:
        async def behave(call: Call) -> None:
            if anyio.current_time() < 3600:
                raise ProviderBlocked("no credit left")

        provider = FakeProvider(behave, latency=1.0)
        service = dispatcher(provider)
        states = []
        async with anyio.create_task_group() as tasks:
            for i in range(20):
                tasks.start_soon(service.embed, texts(5, start=5 * i), "document")
            await anyio.sleep(600)
            states.append(service.state())
        assert states == ["blocked: no credit left"]
        assert service.state() is None
        refused = [call for call in provider.calls if call.started < 3599]
        assert 1 + 7.5 <= refused[8].started <= 2 + 15
        assert len(refused) < 8 + 30  # those that were out when it began, then the probes of an hour
        assert all(call.open_calls == 1 for call in refused[8:])
        assert anyio.current_time() < 3600 + 310
        assert len(provider.calls) - len(refused) == 20

    async def test_p3_calls_that_were_out_when_the_account_was_blocked_do_not_unblock_it(self) -> None:
        async def behave(call: Call) -> None:
            if call.number == 0:
                await anyio.sleep(5)
            elif anyio.current_time() < 100:
                raise ProviderBlocked("key revoked")

        provider = FakeProvider(behave)
        service = dispatcher(provider)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.embed, texts(5), "document")
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(service.embed, texts(5), "document")
            await anyio.sleep(6)
            assert service.state() == "blocked: key revoked"
            assert len(provider.calls) == 2

    @pytest.mark.parametrize("error", [RetriableError("503"), RetriableError("connection refused")])
    async def test_p4_p5_p8_an_outage_is_waited_out_with_few_calls(self, error: RetriableError) -> None:
        async def behave(call: Call) -> None:
            if anyio.current_time() < 7200:
                raise error

        provider = FakeProvider(behave)
        service = dispatcher(provider)
        given = texts(100)
        outcomes: list[Sequence[Embedding | Rejection]] = []

        async def work() -> None:
            outcomes.append(await service.embed(given, "document"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            tasks.start_soon(service.embed, ["a single text"], "document")
            await anyio.sleep(3600)
            assert service.state() == f"down: {error}"
        assert_right(given, outcomes[0])
        assert len(provider.calls) < 2 * (
            2 * 7200 / 30
        )  # half a minute apart, two callers, a control for the single one
        assert service.state() is None
        assert service.statistics().rejected_total == 0

    async def test_a_wish_of_another_failure_holds_back_its_own_call_only(self) -> None:
        provider = FakeProvider(failing(1, RetriableError("503", retry_after=20.0)))
        service = dispatcher(provider)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.embed, texts(2), "document")
            await anyio.sleep(0.1)
            tasks.start_soon(service.embed, texts(2), "document")
        assert [round(call.started, 1) for call in provider.calls][:2] == [0.0, 0.1]
        assert provider.calls[2].started >= 20.0

    async def test_p6_p7_p17_no_answer_or_a_dripping_one_is_cut_off_and_given_more_time(self) -> None:
        async def behave(call: Call) -> None:
            await anyio.sleep([3600, 150, 150, 150][call.number])

        provider = FakeProvider(behave)
        service = dispatcher(provider, timeout=60.0)
        given = texts(3)
        assert_right(given, await service.embed(given, "document"))
        assert service.statistics().timeouts_total == 2  # 60 s and 120 s were too short for it, 240 s are enough
        assert anyio.current_time() < 60 + 120 + 150 + 5

    async def test_patience_ends_an_outage_for_who_waits_but_not_a_rate_limit(self) -> None:
        async def behave(call: Call) -> None:
            if call.started < 100:
                raise RateLimited("429", retry_after=10.0)
            if is_down:
                raise RetriableError("503")

        is_down = False
        service = dispatcher(FakeProvider(behave), give_up_after=30.0)
        assert_right(texts(3), await service.embed(texts(3), "document"))
        assert anyio.current_time() >= 100
        is_down = True
        for given in (["one"], ["one", "two"]):
            started = anyio.current_time()
            with pytest.raises(RetriableError, match="503"):
                await service.embed(given, "document")
            assert 30 <= anyio.current_time() - started < 120
        is_down = False
        assert_right(texts(3), await service.embed(texts(3), "document"))

    @pytest.mark.parametrize("count", [1, 5])
    async def test_a_text_that_fails_each_time_is_no_outage_and_takes_no_other_with_it(self, count: int) -> None:
        async def behave(call: Call) -> None:
            if "poison" in call.texts:
                raise RetriableError("500 EOF")

        service = dispatcher(FakeProvider(behave), give_up_after=30.0)
        given = [*texts(count - 1), "poison"]
        *good, bad = await service.embed(given, "document")
        assert_right(given[:-1], good)
        assert isinstance(bad, Rejection)
        assert (bad.kind, "500 EOF" in bad.reason) == ("rejected", True)
        assert anyio.current_time() < 300

    async def test_patience_begins_anew_with_every_call_that_is_answered(self) -> None:
        async def behave(call: Call) -> None:
            if call.number % 3:
                raise RetriableError("503")

        service = dispatcher(
            FakeProvider(behave, latency=8.0), contract=contract(max_items=1), concurrency=1, give_up_after=30
        )
        assert_right(texts(9), await service.embed(texts(9), "document"))
        assert anyio.current_time() > 9 * 8

    async def test_with_patience_a_blocked_account_is_told_at_once_and_tried_again_later(self) -> None:
        async def behave(call: Call) -> None:
            if call.started < 50:
                raise ProviderBlocked("401")

        provider = FakeProvider(behave)
        service = dispatcher(provider, give_up_after=30.0)
        while True:
            try:
                outcomes = await service.embed(texts(2), "document")
                break
            except ProviderBlocked:
                await anyio.sleep(1)
        assert_right(texts(2), outcomes)
        assert len(provider.calls) < 6
        assert 50 <= anyio.current_time() < 120

    async def test_p16_one_slow_call_holds_up_nobody_else(self) -> None:
        async def behave(call: Call) -> None:
            await anyio.sleep(30 if call.number == 3 else 0.1)

        provider = FakeProvider(behave)
        service = dispatcher(provider, contract=contract(max_items=10), concurrency=8)
        finished: list[float] = []

        async def work(start: int) -> None:
            given = texts(10, start)
            assert_right(given, await service.embed(given, "document"))
            finished.append(anyio.current_time())

        async with anyio.create_task_group() as tasks:
            for i in range(64):
                tasks.start_soon(work, 10 * i)
        assert sorted(finished)[-2] < 2
        assert provider.most_open_calls <= 8

    async def test_concurrency_adapts_to_a_server_that_takes_only_so_many(self) -> None:
        async def behave(call: Call) -> None:
            if call.open_calls > 6:
                raise RateLimited("queue full", retry_after=0.01)

        provider = FakeProvider(behave, latency=1.0)
        service = dispatcher(provider, contract=contract(max_items=1), concurrency=64)
        given = texts(400)
        assert_right(given, await service.embed(given, "document"))
        assert service.statistics().rate_limited_total < 0.1 * len(provider.calls)
        assert anyio.current_time() < 1.3 * 400 / 6

    async def test_concurrency_grows_while_nobody_objects(self) -> None:
        provider = FakeProvider(latency=1.0)
        await dispatcher(provider, contract=contract(max_items=1), concurrency=64).embed(texts(400), "document")
        assert provider.calls[10].started > 0
        assert 32 < provider.most_open_calls <= 64

    async def test_after_a_long_outage_a_large_group_is_soon_large_again(self) -> None:
        async def behave(call: Call) -> None:
            if anyio.current_time() < 3600:
                raise RetriableError("503")

        provider = FakeProvider(behave)
        given = texts(512)
        assert_right(given, await dispatcher(provider).embed(given, "document"))
        assert sum(call.started >= 3600 for call in provider.calls) <= 12

    async def test_cancelling_gives_everything_back(self) -> None:
        provider = FakeProvider(latency=10.0)
        service = dispatcher(provider, concurrency=2)
        with anyio.move_on_after(1):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(service.embed, texts(3), "document")
        assert provider.open_calls == service.statistics().in_flight == 0
        given = texts(3)
        assert_right(given, await service.embed(given, "document"))


class TestBadInput:
    @pytest.mark.parametrize("count", [2, 17, 512, 2048])
    async def test_p14_one_poisonous_text_is_found_in_about_two_log_n_calls(self, count: int) -> None:
        provider = FakeProvider(refusing(POISON))
        service = dispatcher(provider)
        given = texts(count)
        given[count // 3] = POISON
        outcomes = await service.embed(given, "document")
        poisoned = outcomes[count // 3]
        assert isinstance(poisoned, Rejection)
        assert (poisoned.kind, poisoned.reason) == ("rejected", "bad input")
        assert poisoned.attempts <= log2(count) + 2
        rest = [i for i in range(count) if i != count // 3]
        assert_right([given[i] for i in rest], [outcomes[i] for i in rest])
        assert len(provider.calls) <= 2 * log2(count) + 3
        assert service.statistics().rejected_total == 1

    async def test_several_poisonous_texts(self) -> None:
        provider = FakeProvider(refusing("p1", "p2", "p3"))
        given = [*texts(50), "p1", *texts(50), "p2", "p3"]
        outcomes = await dispatcher(provider).embed(given, "document")
        assert [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Rejection)] == [50, 101, 102]

    async def test_the_kind_is_the_providers(self) -> None:
        async def behave(call: Call) -> None:
            raise RejectedError("no text in it", kind="empty_text" if call.texts == [""] else "rejected")

        outcomes = await dispatcher(FakeProvider(behave)).embed(["", "x"], "document")
        assert [outcome.kind for outcome in outcomes if isinstance(outcome, Rejection)] == ["empty_text", "rejected"]

    def test_a_kind_that_is_not_documented_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'strange' is not a dead-letter kind; known are: undecodable, "):
            RejectedError("no text in it", kind="strange")  # type: ignore[arg-type]

    async def test_a_text_that_makes_the_provider_fail_is_found_and_costs_no_other_text(self) -> None:
        provider = FakeProvider(refusing(POISON, error=RetriableError))
        service = dispatcher(provider)
        given = texts(64)
        given[40] = POISON
        outcomes = await service.embed(given, "document")
        assert isinstance(outcomes[40], Rejection)
        assert "other texts succeed" in outcomes[40].reason
        assert_right(given[:40] + given[41:], [*outcomes[:40], *outcomes[41:]])
        assert len(provider.calls) < 50
        assert anyio.current_time() < 1200

    async def test_two_such_texts_side_by_side_do_not_send_the_others_one_by_one(self) -> None:
        provider = FakeProvider(refusing("p1", "p2", error=RetriableError))
        outcomes = await dispatcher(provider).embed(["p1", "p2", *texts(62)], "document")
        assert [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Rejection)] == [0, 1]
        first_success = next(call for call in provider.calls if not {"p1", "p2"} & set(call.texts))
        assert first_success.started < 20  # the others do not wait until these are found
        assert sum(call.texts[0].startswith("text") and len(call.texts) == 1 for call in provider.calls) <= 2

    async def test_p15_requests_refused_for_their_size_are_split_and_later_ones_are_smaller(self) -> None:
        async def behave(call: Call) -> None:
            if len(call.texts) > 100:
                raise RejectedError("413 payload too large", kind="too_large")

        provider = FakeProvider(behave)
        service = dispatcher(provider)
        given = texts(400)
        assert_right(given, await service.embed(given, "document"))
        first = len(provider.calls)
        assert_right(given, await service.embed(given, "document"))
        assert first == 7
        assert [len(call.texts) for call in provider.calls[first:]] == [100] * 4

    async def test_p15_a_lower_limit_on_tokens_is_learned_too(self) -> None:
        async def behave(call: Call) -> None:
            if sum(len(text) for text in call.texts) > 2000:
                raise RejectedError("requested 9000 tokens, max 2000 tokens per request")

        provider = FakeProvider(behave)
        service = dispatcher(provider)
        long = ["x" * 400 + str(i) for i in range(16)]
        assert_right(long, await service.embed(long, "document"))
        first = len(provider.calls)
        assert_right(long, await service.embed(long, "document"))
        assert len(provider.calls) - first <= 5
        await service.embed(texts(100), "document")
        assert len(provider.calls[-1].texts) > 40  # short texts are not held to the number of long ones

    async def test_a_provider_that_refuses_everything_is_blocked_before_much_is_given_up(self) -> None:
        async def behave(call: Call) -> None:
            if anyio.current_time() < 1000:
                raise RejectedError("unknown parameter `input_type`")

        provider = FakeProvider(behave)
        service = dispatcher(provider)
        outcomes: list[Sequence[Embedding | Rejection]] = []

        async def work() -> None:
            outcomes.append(await service.embed(texts(200), "document"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            await anyio.sleep(500)
            assert (service.state() or "").startswith("blocked: the provider rejects even a trivial text")
        assert sum(isinstance(outcome, Rejection) for outcome in outcomes[0]) < 16

    async def test_many_bad_texts_in_a_row_are_all_given_up_when_the_provider_is_sound(self) -> None:
        async def behave(call: Call) -> None:
            if any(text.startswith("bad") for text in call.texts):
                raise RejectedError("bad input")

        outcomes = await dispatcher(FakeProvider(behave)).embed([f"bad {i}" for i in range(100)], "document")
        assert all(isinstance(outcome, Rejection) for outcome in outcomes)


class TestBadAnswers:
    @pytest.mark.parametrize("difference", [-1, 1, -16])
    async def test_p9_a_wrong_number_of_vectors_never_shifts_them(self, difference: int) -> None:
        async def behave(call: Call) -> Answer | None:
            if call.number == 0:
                return Answer(rows([*call.texts, "one more"])[: len(call.texts) + difference])
            return None

        given = texts(16)
        assert_right(given, await dispatcher(FakeProvider(behave)).embed(given, "document"))

    async def test_p9_a_text_without_a_vector_is_given_up_alone(self) -> None:
        async def behave(call: Call) -> Answer | None:
            return Answer(rows([text for text in call.texts if text != POISON]))

        given = [*texts(20), POISON]
        outcomes = await dispatcher(FakeProvider(behave)).embed(given, "document")
        assert_right(given[:-1], outcomes[:-1])
        assert isinstance(outcomes[-1], Rejection)
        assert outcomes[-1].kind == "invalid_vector"

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 1e-30, 1e30])
    async def test_p11_p13_an_unusable_vector_is_asked_for_again_alone_then_given_up(self, value: float) -> None:
        async def behave(call: Call) -> Answer:
            vectors = rows(call.texts)
            for i, text in enumerate(call.texts):
                if text == POISON:
                    vectors[i] = value
            return Answer(vectors)

        provider = FakeProvider(behave)
        given = texts(30)
        given[7] = POISON
        outcomes = await dispatcher(provider).embed(given, "document")
        assert_right(given[:7] + given[8:], [*outcomes[:7], *outcomes[8:]])
        assert isinstance(outcomes[7], Rejection)
        assert (outcomes[7].kind, outcomes[7].attempts) == ("invalid_vector", 3)
        assert [len(call.texts) for call in provider.calls] == [30, 1, 1]

    async def test_p11_a_vector_that_is_fine_the_second_time_is_used(self) -> None:
        async def behave(call: Call) -> Answer | None:
            vectors = rows(call.texts)
            if call.number == 0:
                vectors[3] = np.nan
            return Answer(vectors)

        given = texts(10)
        assert_right(given, await dispatcher(FakeProvider(behave)).embed(given, "document"))

    async def test_a_poisoned_server_that_answers_zeros_is_an_outage_and_not_the_texts_fault(self) -> None:
        async def behave(call: Call) -> Answer | None:
            if anyio.current_time() < 600:
                return Answer(np.zeros((len(call.texts), DIMENSIONS), dtype=np.float32))
            return None

        provider = FakeProvider(behave)
        service = dispatcher(provider)
        given = texts(50)
        assert_right(given, await service.embed(given, "document"))

    async def test_p12_another_dimension_stops_everything(self) -> None:
        async def behave(call: Call) -> Answer | None:
            return Answer(rows(call.texts, DIMENSIONS + (call.number > 0)))

        provider = FakeProvider(behave)
        service = dispatcher(provider, contract=contract(max_items=10))
        given = texts(10)
        assert_right(given, await service.embed(given, "document"))
        with pytest.raises(SpaceMismatch, match="8 dimensions were expected, the provider sent 9"):
            await service.embed(texts(100), "document")

    async def test_a_bug_in_an_adapter_is_not_swallowed(self) -> None:
        async def behave(call: Call) -> None:
            raise KeyError("data")

        with pytest.raises(KeyError):
            await dispatcher(FakeProvider(behave), contract=contract(max_items=2)).embed(texts(10), "document")

    async def test_p19_values_that_differ_a_little_each_time_are_fine(self) -> None:
        async def behave(call: Call) -> Answer:
            return Answer(rows(call.texts) * np.float32(1 + 1e-6 * call.number))

        given = texts(10)
        service = dispatcher(FakeProvider(behave))
        for _ in range(3):
            assert_right(given, await service.embed(given, "document"))

    async def test_p20_a_local_model_out_of_memory_gets_smaller_groups(self) -> None:
        async def behave(call: Call) -> None:
            if len(call.texts) > 64:
                raise RetriableError("out of memory")

        provider = FakeProvider(behave)
        service = dispatcher(provider, contract=contract(max_items=None, is_local=True))
        given = texts(512)
        assert_right(given, await service.embed(given, "document"))
        assert provider.most_open_calls == 1


def exact(given: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in given]


class TestLongTexts:
    LONG = " ".join(f"word{i}" for i in range(250))

    def refuse_long(self, limit: int = 100) -> Behaviour:
        async def behave(call: Call) -> None:
            if max(exact(call.texts)) > limit:
                raise RejectedError("this model's maximum context length is 100 tokens", kind="too_long")

        return behave

    @pytest.mark.parametrize("count_tokens", [exact, None])
    async def test_truncate_keeps_the_beginning_and_says_so(self, count_tokens: object) -> None:
        provider = FakeProvider(self.refuse_long())
        service = dispatcher(provider, contract=contract(max_item_tokens=100), count_tokens=count_tokens)
        given = [*texts(5), self.LONG, *texts(5)]
        outcomes = await service.embed(given, "document")
        assert_right(texts(5), outcomes[:5])
        long = outcomes[5]
        assert isinstance(long, Embedding)
        assert long.truncated
        sent = next(call.texts[0] for call in reversed(provider.calls) if call.texts[0].startswith("word0"))
        assert self.LONG.startswith(sent)
        np.testing.assert_allclose(long.vector, vector_of(sent) / np.linalg.norm(vector_of(sent)), atol=1e-6)
        assert not any(outcome.truncated for outcome in outcomes[:5] if isinstance(outcome, Embedding))

    async def test_a_text_that_only_might_be_too_long_is_sent_whole_and_alone(self) -> None:
        provider = FakeProvider(self.refuse_long(limit=1000))
        service = dispatcher(provider, contract=contract(max_item_tokens=400))
        given = [*texts(5), self.LONG]
        assert_right(given, await service.embed(given, "document"))
        assert sorted(len(call.texts) for call in provider.calls) == [1, 5]

    async def test_reject_gives_it_up_without_a_call_if_the_tokenizer_is_sure(self) -> None:
        provider = FakeProvider(self.refuse_long(), space=space(on_too_long="reject"))
        service = dispatcher(provider, contract=contract(max_item_tokens=100), count_tokens=exact)
        [outcome] = await service.embed([self.LONG], "document")
        assert isinstance(outcome, Rejection)
        assert (outcome.kind, outcome.attempts) == ("too_long", 0)
        assert provider.calls == []

    async def test_reject_refuses_a_vector_of_a_text_that_the_model_cut_silently(self) -> None:
        async def behave(call: Call) -> Answer:
            return Answer(rows(call.texts), truncated=[len(text) > 100 for text in call.texts])

        provider = FakeProvider(behave, space=space(on_too_long="reject"))
        outcomes = await dispatcher(provider).embed(["short", self.LONG], "document")
        assert isinstance(outcomes[0], Embedding)
        assert isinstance(outcomes[1], Rejection)
        assert outcomes[1].kind == "too_long"

    @pytest.mark.parametrize("count_tokens", [exact, None])
    async def test_chunk_means_all_parts_weighted_by_their_tokens(self, count_tokens: object) -> None:
        async def behave(call: Call) -> Answer:
            if max(exact(call.texts)) > 100:
                raise RejectedError("too many tokens", kind="too_long")
            return Answer(rows(call.texts), tokens=exact(call.texts))

        provider = FakeProvider(behave, space=space(on_too_long="chunk", document_prefix="passage: "))
        service = dispatcher(provider, contract=contract(max_item_tokens=100), count_tokens=count_tokens)
        prepared = provider.space.prepare(self.LONG, "document")
        outcomes = await service.embed(["passage: a", prepared], "document")
        assert_right(["passage: a"], outcomes[:1])
        long = outcomes[1]
        assert isinstance(long, Embedding)
        assert long.truncated
        parts = {text for call in provider.calls for text in call.texts if "word" in text and len(exact([text])) <= 100}
        parts = {part for part in parts if exact([part])[0] <= 100}
        assert all(part.startswith("passage: ") for part in parts)
        bodies = sorted((part.removeprefix("passage: ") for part in parts), key=self.LONG.index)
        assert "".join(bodies) == self.LONG
        weighted = sum(
            exact([part])[0] * vector_of(part).astype(float) / np.linalg.norm(vector_of(part)) for part in parts
        )
        assert isinstance(weighted, np.ndarray)
        np.testing.assert_allclose(long.vector, weighted / np.linalg.norm(weighted), atol=1e-5)
        assert np.linalg.norm(long.vector) == pytest.approx(1.0, abs=1e-6)

    async def test_a_chunk_that_is_refused_takes_the_whole_text_with_it(self) -> None:
        async def behave(call: Call) -> None:
            if any("word200" in text for text in call.texts):
                raise RejectedError("bad input")

        provider = FakeProvider(behave, space=space(on_too_long="chunk"))
        service = dispatcher(provider, contract=contract(max_item_tokens=100), count_tokens=exact)
        [outcome] = await service.embed([self.LONG], "document")
        assert isinstance(outcome, Rejection)
        assert outcome.reason == "bad input"

    @pytest.mark.parametrize("policy", ["truncate", "chunk", "reject"])
    async def test_a_provider_that_finds_everything_too_long_ends_in_a_rejection(self, policy: str) -> None:
        async def behave(call: Call) -> None:
            raise RejectedError("too long", kind="too_long")

        provider = FakeProvider(behave, space=space(on_too_long=policy))
        [outcome] = await dispatcher(provider).embed([self.LONG], "document")
        assert isinstance(outcome, Rejection)
        assert outcome.kind == "too_long"

    async def test_a_provider_that_cuts_by_itself_is_left_to_it_and_flagged(self) -> None:
        provider = FakeProvider()
        service = dispatcher(provider, contract=contract(max_item_tokens=100, truncation="optional"))
        given = [self.LONG, "short"]
        outcomes = await service.embed(given, "document")
        assert_right(given, outcomes)
        assert [outcome.truncated for outcome in outcomes if isinstance(outcome, Embedding)] == [True, False]
        assert len(provider.calls) == 1
