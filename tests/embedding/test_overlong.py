"""Texts that are longer than the model reads: truncated, chunked or rejected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.embedding.overlong import MOST_BYTES_A_TOKEN, OverlongTexts
from streamer.embedding.planning import SPECIAL_TOKENS, TokenEstimator
from streamer.embedding.text_batch import TextBatch
from streamer.errors import RejectedError
from streamer.protocols import Answer, Embedding, Rejection
from tests.embedding.dispatching import assert_right, dispatcher, texts
from tests.embedding.providers import Behaviour, Call, FakeProvider, contract, rows, space, vector_of

pytestmark = pytest.mark.anyio


def exact(given: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in given]


LONG = " ".join(f"word{i}" for i in range(250))


def refuse_long(limit: int = 100) -> Behaviour:
    async def behave(call: Call) -> None:
        if max(exact(call.texts)) > limit:
            raise RejectedError("this model's maximum context length is 100 tokens", kind="too_long")

    return behave


@pytest.mark.parametrize("count_tokens", [exact, None])
async def test_truncate_keeps_the_beginning_and_says_so(count_tokens: object) -> None:
    provider = FakeProvider(refuse_long())
    service = dispatcher(provider, contract=contract(max_item_tokens=100), count_tokens=count_tokens)
    given = [*texts(5), LONG, *texts(5)]
    outcomes = await service.embed(given, "document")
    assert_right(texts(5), outcomes[:5])
    long = outcomes[5]
    assert isinstance(long, Embedding)
    assert long.truncated
    sent = next(call.texts[0] for call in reversed(provider.calls) if call.texts[0].startswith("word0"))
    assert LONG.startswith(sent)
    np.testing.assert_allclose(long.vector, vector_of(sent) / np.linalg.norm(vector_of(sent)), atol=1e-6)
    assert not any(outcome.truncated for outcome in outcomes[:5] if isinstance(outcome, Embedding))


async def test_a_text_that_only_might_be_too_long_is_sent_whole_and_alone() -> None:
    provider = FakeProvider(refuse_long(limit=1000))
    service = dispatcher(provider, contract=contract(max_item_tokens=400))
    given = [*texts(5), LONG]
    assert_right(given, await service.embed(given, "document"))
    assert sorted(len(call.texts) for call in provider.calls) == [1, 5]


async def test_reject_gives_it_up_without_a_call_if_the_tokenizer_is_sure() -> None:
    provider = FakeProvider(refuse_long(), space=space(on_too_long="reject"))
    service = dispatcher(provider, contract=contract(max_item_tokens=100), count_tokens=exact)
    [outcome] = await service.embed([LONG], "document")
    assert isinstance(outcome, Rejection)
    assert (outcome.kind, outcome.attempts) == ("too_long", 0)
    assert provider.calls == []


async def test_reject_refuses_a_vector_of_a_text_that_the_model_cut_silently() -> None:
    async def behave(call: Call) -> Answer:
        return Answer(rows(call.texts), truncated=[len(text) > 100 for text in call.texts])

    provider = FakeProvider(behave, space=space(on_too_long="reject"))
    outcomes = await dispatcher(provider).embed(["short", LONG], "document")
    assert isinstance(outcomes[0], Embedding)
    assert isinstance(outcomes[1], Rejection)
    assert outcomes[1].kind == "too_long"


@pytest.mark.parametrize("count_tokens", [exact, None])
async def test_chunk_means_all_parts_weighted_by_their_tokens(count_tokens: object) -> None:
    async def behave(call: Call) -> Answer:
        if max(exact(call.texts)) > 100:
            raise RejectedError("too many tokens", kind="too_long")
        return Answer(rows(call.texts), tokens=exact(call.texts))

    provider = FakeProvider(behave, space=space(on_too_long="chunk", document_prefix="passage: "))
    service = dispatcher(provider, contract=contract(max_item_tokens=100), count_tokens=count_tokens)
    prepared = provider.space.prepare(LONG, "document")
    outcomes = await service.embed(["passage: a", prepared], "document")
    assert_right(["passage: a"], outcomes[:1])
    long = outcomes[1]
    assert isinstance(long, Embedding)
    assert long.truncated
    parts = {text for call in provider.calls for text in call.texts if "word" in text and len(exact([text])) <= 100}
    parts = {part for part in parts if exact([part])[0] <= 100}
    assert all(part.startswith("passage: ") for part in parts)
    bodies = sorted((part.removeprefix("passage: ") for part in parts), key=LONG.index)
    assert "".join(bodies) == LONG
    weighted = sum(exact([part])[0] * vector_of(part).astype(float) / np.linalg.norm(vector_of(part)) for part in parts)
    assert isinstance(weighted, np.ndarray)
    np.testing.assert_allclose(long.vector, weighted / np.linalg.norm(weighted), atol=1e-5)
    assert np.linalg.norm(long.vector) == pytest.approx(1.0, abs=1e-6)


async def test_a_chunk_that_is_refused_takes_the_whole_text_with_it() -> None:
    async def behave(call: Call) -> None:
        if any("word200" in text for text in call.texts):
            raise RejectedError("bad input")

    provider = FakeProvider(behave, space=space(on_too_long="chunk"))
    service = dispatcher(provider, contract=contract(max_item_tokens=100), count_tokens=exact)
    [outcome] = await service.embed([LONG], "document")
    assert isinstance(outcome, Rejection)
    assert outcome.reason == "bad input"


@pytest.mark.parametrize("policy", ["truncate", pytest.param("chunk", marks=pytest.mark.slow), "reject"])
async def test_a_text_that_is_too_long_however_short_ends_in_a_rejection(policy: str) -> None:
    async def behave(call: Call) -> None:
        if call.texts != ["hello"]:
            raise RejectedError("too long", kind="too_long")

    provider = FakeProvider(behave, space=space(on_too_long=policy))
    [outcome] = await dispatcher(provider).embed([LONG], "document")
    assert isinstance(outcome, Rejection)
    assert outcome.kind == "too_long"


async def test_a_provider_that_cuts_by_itself_is_left_to_it_and_flagged() -> None:
    provider = FakeProvider()
    service = dispatcher(provider, contract=contract(max_item_tokens=100, truncation="optional"))
    given = [LONG, "short"]
    outcomes = await service.embed(given, "document")
    assert_right(given, outcomes)
    assert [outcome.truncated for outcome in outcomes if isinstance(outcome, Embedding)] == [True, False]
    assert len(provider.calls) == 1


def lengths(
    limit: int = 10, count_tokens: object = exact, truncation: str = "never", **values: object
) -> OverlongTexts:
    """Of a model that reads so many words."""
    limits = contract(max_item_tokens=limit + SPECIAL_TOKENS, truncation=truncation)
    return OverlongTexts(limits, space(**values), count_tokens)  # type: ignore[arg-type]


WORDS = st.lists(st.text("ab", min_size=1, max_size=8), min_size=1, max_size=80).map(" ".join)


@given(st.lists(st.integers(1, 40), max_size=30), st.booleans(), st.sampled_from(["never", "always", "optional"]))
def test_each_text_is_sorted_once_and_is_cut_only_where_it_is_certainly_too_long(
    words: list[int], with_tokenizer: bool, truncation: str
) -> None:
    policy = lengths(10, exact if with_tokenizer else None, truncation, on_too_long="chunk")
    batch = TextBatch(["word " * count for count in words], "document", TokenEstimator())
    fitting, doubtful, overlong = policy.sort(batch)
    assert sorted([*fitting, *doubtful, *overlong]) == [*range(len(words))]
    if with_tokenizer:
        assert sorted(fitting) == [place for place, count in enumerate(words) if count <= 10]
        assert doubtful == []
    elif truncation == "always":
        assert doubtful == []
    else:
        assert all(words[place] * 5 > MOST_BYTES_A_TOKEN * 10 for place in overlong)


def test_a_model_that_may_cut_is_sent_everything_where_the_policy_is_to_truncate() -> None:
    batch = TextBatch(["word " * 300, "short"], "document", TokenEstimator())
    assert sorted(lengths(truncation="optional").sort(batch)[0]) == [0, 1]
    assert lengths(truncation="never").sort(batch) == ([1], [], [0])


@given(WORDS, st.sampled_from([exact, None]))
def test_shortening_again_and_again_comes_to_an_end_and_keeps_the_beginning(text: str, count_tokens: object) -> None:
    policy = lengths(5, count_tokens)
    shorter, whole = policy.shortened(text), text
    while shorter is not None:
        assert len(shorter) < len(text)
        assert whole.startswith(shorter)
        assert policy.count(shorter) <= max(5, 0.75 * policy.count(text))
        text, shorter = shorter, policy.shortened(shorter)


def test_a_text_that_fits_by_our_count_but_not_by_the_providers_loses_a_quarter() -> None:
    assert lengths(5).shortened("a b c d") == "a b c "
    assert lengths(5).shortened("a") is None, "nothing is left to cut"


@given(WORDS)
def test_parts_are_the_text_again_and_each_has_the_prefix_and_fits(text: str) -> None:
    policy = lengths(10, on_too_long="chunk", query_prefix="query: ")
    parts = policy.parts("query: " + text, "query")
    if parts is None:
        assert exact([text])[0] <= 2, "so few words are not halved by words"
        return
    assert len(parts) > 1
    assert all(part.startswith("query: ") and exact([part])[0] <= 10 for part in parts)
    assert "".join(part.removeprefix("query: ") for part in parts) == text


def test_parts_count_by_their_tokens() -> None:
    along, across = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    whole = lengths().combined(["a", "b"], [Embedding(along, 30, False), Embedding(across, 40, False)])
    np.testing.assert_allclose(whole.vector, [0.6, 0.8], atol=1e-6)
    assert (whole.tokens, whole.truncated) == (70, True)
    counted = lengths().combined(["a b c", "a b c d"], [Embedding(along, 0, False), Embedding(across, 0, False)])
    np.testing.assert_allclose(counted.vector, [0.6, 0.8], atol=1e-6)
