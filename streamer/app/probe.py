"""A few calls to a provider, to tell a person what is wrong with it. Nothing is waited out or tried again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anyio
import numpy as np

from streamer.adapters.providers.answered_model import is_same_model
from streamer.app.providers import OpenProvider, open_provider
from streamer.core.vectors import Matrix, Purpose, Space
from streamer.embedding.answer_check import InvalidAnswer, OtherWidth, check_answer
from streamer.embedding.provider_calls import CONTROL_TEXT
from streamer.errors import ConfigurationError, ProviderBlocked, RateLimited, RetriableError, StreamerError, Unreachable
from streamer.protocols import Answer
from streamer.settings import Settings

LONGEST_SECONDS = 60.0
LONGER_TEXT = "A second and longer text, about parcels that arrive late, so that an exchange of the two is seen."
SAME = 0.99  # the least cosine of two vectors of one text; a batch moves the last digits


@dataclass(frozen=True, slots=True)
class Probed:
    """A provider that answers as it should. `note`: what a person may want to know nevertheless, else empty."""

    space: Space
    note: str = ""


async def probe(settings: Settings) -> Probed:
    """Ask as the worker will: two texts of different lengths at a time, with every option, as documents and queries.

    Raises ConfigurationError when a setting is to blame and Unreachable when the account or the service is, each saying
    what to do.
    """
    seconds = min(settings.provider.timeout_seconds, LONGEST_SECONDS)
    async with open_provider(settings) as opened:
        space = opened.provider.space
        pair = [CONTROL_TEXT, LONGER_TEXT] if (opened.contract.max_items or 2) > 1 else [CONTROL_TEXT]
        answer = await _ask(opened, pair, "document", seconds)
        first = _checked(opened, answer, pair)
        if len(pair) > 1:
            # Some services have no index, and some write any: only the exchange shows whether the order can be trusted.
            swapped = _checked(opened, await _ask(opened, pair[::-1], "document", seconds), pair)
            if min(np.einsum("ij,ij->i", first, swapped[::-1])) < SAME:
                raise Unreachable(
                    f"{space.provider} {space.model} does not keep to the order of the texts: the vectors of two texts "
                    "change when the texts change places; if the server cannot be mended, set provider.max_items = 1"
                )
        if _options(space, "query") != _options(space, "document"):
            _checked(opened, await _ask(opened, pair, "query", seconds), pair)
        return Probed(space, _note(space, answer))


def _options(space: Space, purpose: Purpose) -> tuple[str, str]:
    input_type = space.document_input_type if purpose == "document" else space.query_input_type
    return input_type, space.prepare("", purpose)


def _checked(opened: OpenProvider, answer: Answer, texts: Sequence[str]) -> Matrix:
    space = opened.provider.space
    try:
        contract = opened.contract
        checked = check_answer(
            answer.vectors,
            len(texts),
            space.dimensions,
            matryoshka=contract.matryoshka,
            longest=contract.native_dimensions,
        )
    except OtherWidth as exc:
        width = answer.vectors.shape[-1]
        raise ConfigurationError(
            f"{space.provider} {space.model} sends vectors of {width} dimensions, not {space.dimensions}; "
            f"set provider.dimensions = {width}"
        ) from exc
    except InvalidAnswer as exc:
        raise Unreachable(f"{space.provider} {space.model} cannot be used: {exc}") from exc
    if not checked.is_good.all():
        which = "the shorter" if not checked.is_good[texts.index(CONTROL_TEXT)] else "the longer"
        raise Unreachable(
            f"{space.provider} {space.model} sends a vector that is not of finite, positive length for {which} of "
            f"{len(texts)} texts"
        )
    return checked.rows


def _note(space: Space, answer: Answer) -> str:
    named = answer.model
    if named is None or is_same_model(named, space.model):
        return ""
    return f"the service says that its model is {named[:80]!r}: is {space.model!r} right in provider.model?"


async def _ask(opened: OpenProvider, texts: Sequence[str], purpose: Purpose, seconds: float) -> Answer:
    provider = opened.provider
    name = provider.space.provider
    try:
        with anyio.fail_after(seconds):
            return await provider.embed([provider.space.prepare(text, purpose) for text in texts], purpose)
    except TimeoutError:
        raise Unreachable(
            f"{name} did not answer within {seconds:g} s; if it is loading the model try again, else check "
            "provider.base_url or raise provider.timeout_seconds"
        ) from None
    except ProviderBlocked as exc:
        raise Unreachable(str(exc)) from exc
    except RateLimited as exc:
        raise Unreachable(f"{exc}; the account is at a rate limit just now: try again in a minute") from exc
    except RetriableError as exc:
        raise Unreachable(f"{exc}; is provider.base_url right, and the service up?") from exc
    except InvalidAnswer as exc:
        raise Unreachable(f"{name} cannot be used: {exc}") from exc
    except StreamerError as exc:
        said = f"{name} rejects trivial texts ({len(texts)} in a request, as a {purpose}): {exc}"
        raise ConfigurationError(f"{said}; check provider.model, provider.base_url and provider.max_items") from exc
