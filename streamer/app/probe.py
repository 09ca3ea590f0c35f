"""One call to a provider, to tell a person what is wrong with it. Nothing is waited out or tried again."""

from __future__ import annotations

import anyio

from streamer.app.providers import OpenProvider, open_provider
from streamer.core.vectors import Space
from streamer.embedding.answer_check import InvalidAnswer, check_answer
from streamer.embedding.provider_calls import CONTROL_TEXT
from streamer.errors import ConfigurationError, ProviderBlocked, RateLimited, RetriableError, StreamerError, Unreachable
from streamer.protocols import Answer
from streamer.settings import Settings

LONGEST_SECONDS = 60.0


async def probe(settings: Settings) -> Space:
    """The space of a provider that answers as it should.

    Raises ConfigurationError when a setting is to blame and Unreachable when the account or the service is, each saying
    what to do.
    """
    async with open_provider(settings) as opened:
        answer = await _ask(opened, min(settings.provider.timeout_seconds, LONGEST_SECONDS))
        space, width = opened.provider.space, answer.vectors.shape[-1]
        if width != space.dimensions and not (opened.contract.matryoshka and width > space.dimensions):
            raise ConfigurationError(
                f"{space.provider} {space.model} sends vectors of {width} dimensions, not {space.dimensions}; "
                f"set provider.dimensions = {width}"
            )
        try:
            checked = check_answer(answer.vectors, 1, space.dimensions, matryoshka=opened.contract.matryoshka)
            is_good = bool(checked.is_good.all())
        except InvalidAnswer as exc:
            raise Unreachable(f"{space.provider} {space.model} cannot be used: {exc}") from exc
        if not is_good:
            raise Unreachable(f"{space.provider} {space.model} sends a vector that is not of finite, positive length")
        return space


async def _ask(opened: OpenProvider, seconds: float) -> Answer:
    provider = opened.provider
    name = provider.space.provider
    try:
        with anyio.fail_after(seconds):
            return await provider.embed([provider.space.prepare(CONTROL_TEXT, "document")], "document")
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
    except StreamerError as exc:
        raise ConfigurationError(f"{name} refuses the word {CONTROL_TEXT!r}: {exc}; check provider.model") from exc
