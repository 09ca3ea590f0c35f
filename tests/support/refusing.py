"""A sink whose broker refuses messages for what they are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import anyio.lowlevel

from streamer.core.events import Message
from streamer.errors import DeadLetterKind
from streamer.protocols import Acknowledgement
from streamer.testing import MemorySink


class RefusingSink(MemorySink):
    """As KafkaSink does, sends what there is instead of a message for which `refuses` names a kind, in its place. A
    message that has nothing less is sent again until it is taken."""

    def __init__(self, refuses: Callable[[Message], DeadLetterKind | None], rng: random.Random | None = None) -> None:
        super().__init__(rng)
        self.refuses = refuses
        self.refused: list[Message] = []

    async def send(self, messages: Sequence[Message]) -> Acknowledgement:
        taken = []
        for message in messages:
            current = message
            while (kind := self.refuses(current)) is not None:
                self.refused.append(current)
                lesser = current.instead and current.instead(kind, "the broker says no")
                if lesser is None:
                    await anyio.lowlevel.checkpoint()
                current = lesser or current
            taken.append(current)
        return await super().send(taken)
