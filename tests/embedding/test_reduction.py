from __future__ import annotations

import numpy as np
import pytest

from streamer.core.projection import PrincipalAxes, Projection
from streamer.core.vectors import unit_rows
from streamer.embedding.dispatcher import Dispatcher
from streamer.embedding.reduction import Reduced
from streamer.errors import ConfigurationError, ProviderBlocked
from streamer.protocols import Answer, Embedding, Rejection
from tests.embedding.providers import DIMENSIONS, Call, FakeProvider, contract, rows, space

pytestmark = pytest.mark.anyio

K = 3


def projection(of: str | None = None) -> Projection:
    axes = PrincipalAxes(DIMENSIONS)
    axes.add(unit_rows(rows([f"sample {i}" for i in range(50)])))
    return axes.projection(K, of or space().id)


async def test_vectors_are_projected_and_the_space_is_named_after_the_projection() -> None:
    reduced = Reduced(FakeProvider(), projection())
    service = Dispatcher(reduced, contract(dimensions=K))
    given = [f"text {i}" for i in range(20)]
    outcomes = await service.embed(given, "document")
    found = np.stack([outcome.vector for outcome in outcomes if isinstance(outcome, Embedding)])
    np.testing.assert_allclose(found, unit_rows(unit_rows(rows(given)) @ projection().axes.T), atol=1e-6)
    assert reduced.space.dimensions == K
    assert reduced.space.reduction == f"pca-{projection().fingerprint}"
    assert reduced.space.id != space().id != space(dimensions=K).id
    await reduced.aclose()


async def test_a_bad_vector_is_found_behind_the_projection() -> None:
    async def behave(call: Call) -> Answer | None:
        vectors = rows(call.texts)
        vectors[[text == "bad" for text in call.texts]] = 0
        return Answer(vectors)

    outcomes = await Dispatcher(Reduced(FakeProvider(behave), projection()), contract(dimensions=K)).embed(
        ["a", "bad", "b"], "document"
    )
    assert [type(outcome) for outcome in outcomes] == [Embedding, Rejection, Embedding]
    assert isinstance(outcomes[1], Rejection)
    assert outcomes[1].kind == "invalid_vector"


@pytest.mark.parametrize("width", [K, DIMENSIONS + 1])
async def test_another_dimension_blocks_everything(width: int) -> None:
    async def behave(call: Call) -> Answer:
        return Answer(rows(call.texts, width))

    service = Dispatcher(Reduced(FakeProvider(behave), projection()), contract(dimensions=K), give_up_after=30.0)
    with pytest.raises(
        ProviderBlocked, match=f"vectors of {DIMENSIONS} dimensions were expected, the provider sent {width}"
    ):
        await service.embed(["a"], "document")


async def test_a_model_that_may_be_cut_is_cut_first() -> None:
    async def behave(call: Call) -> Answer:
        return Answer(rows(call.texts, 2 * DIMENSIONS))

    answer = await Reduced(FakeProvider(behave), projection(), matryoshka=True).embed(["a"], "document")
    expected = unit_rows(rows(["a"], 2 * DIMENSIONS)[:, :DIMENSIONS]) @ projection().axes.T
    np.testing.assert_allclose(answer.vectors, expected, atol=1e-6)


def test_a_projection_of_another_space_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=f"fitted to the space 0123.*fake fake gives the space {space().id}"):
        Reduced(FakeProvider(), projection("0123"))
