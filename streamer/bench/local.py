"""A model in this process: texts a second by their length, beside the same model given one text at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any

from streamer.app.embedder import open_embedding
from streamer.bench.figures import Figure, Sample
from streamer.bench.job import settings_of
from streamer.core.vectors import Purpose
from streamer.errors import ConfigurationError
from streamer.protocols import Embedder, Rejection

PURPOSE: Purpose = "document"
SINGLY = 16  # texts of a run that are embedded one at a time
# Common English words, one token each in the vocabularies of BERT.
WORDS = (
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state",
    "group", "country", "problem", "hand", "part", "place", "case", "week", "company", "system", "program", "question",
    "work", "number", "night", "point", "home", "water", "room", "mother", "area", "money", "story",
)  # fmt: skip


async def measure_local(*, runs: int, texts: int, tokens: int, where: Mapping[str, Any]) -> list[Figure]:
    """`tokens`: length of a text. Longer ones than the model reads are cut or embedded in pieces, as the settings
    say."""
    settings = settings_of(where)
    async with open_embedding(settings) as stack:
        space = stack.embedder.space
        figure = Figure(f"texts of {tokens} tokens, {space.provider} {space.model}", "texts/s", "one text at a time")
        made = _texts(tokens)
        await _embed(stack.dispatcher, [next(made)])
        for _ in range(runs):
            own = await _rate(partial(_embed, stack.dispatcher), [list(islice(made, texts))])
            singly = await _rate(partial(_embed, stack.dispatcher), [[next(made)] for _ in range(SINGLY)])
            figure.add(own, singly)
    return [figure]


async def _embed(embedder: Embedder, texts: Sequence[str]) -> None:
    for answer in await embedder.embed(texts, PURPOSE):
        if isinstance(answer, Rejection):
            raise ConfigurationError(f"the model takes no text of this length: {answer.reason}")


async def _rate(embed: Any, calls: Sequence[Sequence[str]]) -> Sample:
    began, cpu = time.perf_counter(), time.process_time()
    for texts in calls:
        await embed(texts)
    count = sum(map(len, calls))
    return Sample(count / (time.perf_counter() - began), 1e6 * (time.process_time() - cpu) / count)


def _texts(tokens: int) -> Any:
    words = cycle(WORDS)
    number = 0
    while True:
        number += 1
        next(words)  # each begins with another word
        yield " ".join(islice(words, max(1, tokens - 2)))
