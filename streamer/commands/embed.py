"""`streamer embed`: vectors without Kafka, to try a provider, to fill the cache, or to fit a projection."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import anyio
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from streamer.adapters.projection_file import save_projection
from streamer.commands.file_format import FileFormat
from streamer.commands.rows import AnyRow, BadRow
from streamer.commands.text_files import TextFile, open_text_file
from streamer.commands.vector_files import Id, check_output, open_vector_file
from streamer.core.projection import PrincipalAxes
from streamer.core.text_fields import key_at, text_at
from streamer.core.vectors import Purpose
from streamer.errors import ConfigurationError, StreamerError
from streamer.protocols import Embedding, Rejection
from streamer.service import EmbeddingService
from streamer.settings import Settings

LOOK_SECONDS = 1.0  # how often it is seen whether the provider keeps us waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the texts are: first those of the arguments, then those of a file (`-` is standard input).

    `text_field`: the file's column or field with the text. `id_field`: the one that names each, kept with its vector.
    """

    texts: Sequence[str]
    path: Path | None
    format: FileFormat
    text_field: str
    id_field: str | None = None
    skip_bad: bool = False


async def embed(settings: Settings, sources: Sources, *, output: Path | None, purpose: Purpose) -> None:
    """Write a line or row for each text, in constant memory.

    A run that was interrupted is begun anew: what it had embedded comes out of the cache.
    """
    check_output(output)
    job = Job(sources, lines_on_terminal=output is None and sys.stdout.isatty())
    async with EmbeddingService(settings) as service:
        with open_vector_file(output, service.space, ids=sources.id_field is not None) as file:
            await job.run(service, purpose, file.write)
    if job.refused:
        raise StreamerError(f"{job.refused} of {job.count} texts have no vector; {job.reason}")


async def fit_pca(settings: Settings, sources: Sources, *, output: Path | None, dimensions: int) -> None:
    """Fit a projection on `dimensions` axes to the vectors of these texts, and save it for `provider.reduction`."""
    if output is None or output.suffix != ".npz":
        raise ConfigurationError("--fit-pca saves a projection; say where, as in --output pca.npz")
    job = Job(sources, lines_on_terminal=False)
    whole = settings.provider.model_copy(update={"reduction": None})
    async with EmbeddingService(settings.model_copy(update={"provider": whole})) as service:
        axes = PrincipalAxes(service.dimensions)

        def take(text: str, outcome: Embedding | Rejection, id: Id) -> None:  # noqa: ARG001
            if isinstance(outcome, Embedding):
                axes.add(outcome.vector[None])

        await job.run(service, "document", take)
        try:
            projection = axes.projection(dimensions, service.space.id)
        except ValueError as exc:
            raise ConfigurationError(f"--fit-pca {dimensions}: {exc}") from exc
    save_projection(output, projection)
    job.say(
        f"{output}: {dimensions} of {projection.axes.shape[1]} dimensions, holding {projection.kept:.1%} of the "
        f"sample; to use it: --set provider.reduction={output}"
    )


def texts_of(sources: Sources, most: int) -> list[str]:
    """The first texts there are, without embedding them."""
    job = Job(sources, lines_on_terminal=False)
    with job.opened() as file:
        return list(islice(job.texts(file), most))


class Job:
    """The texts of the arguments and of a file, embedded under the eyes of a person."""

    def __init__(self, sources: Sources, *, lines_on_terminal: bool) -> None:
        if not sources.texts and sources.path is None:
            raise ConfigurationError("nothing to embed; give texts as arguments or a file of texts (--file)")
        self._sources = sources
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._has_bar = sources.path is not None and self._console.is_terminal and not lines_on_terminal
        self._ids: deque[Id] = deque()  # of the texts that were read and have no outcome yet
        self.count = self.refused = self._skipped = self._hits = self._tokens = 0
        self.reason = ""  # of the first text that has no vector
        self._first_skipped = ""

    def say(self, line: str) -> None:
        self._console.print(line, markup=False)

    async def run(
        self, service: EmbeddingService, purpose: Purpose, take: Callable[[str, Embedding | Rejection, Id], None]
    ) -> None:
        """Hand each text with its outcome and its id to `take`, in order."""
        path = self._sources.path
        with self.opened() as file, self._bar() as bar:
            task = bar.add_task("embedding", total=file.size if file else None, texts=0)
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._watch, service, bar, task)
                    async with aclosing(service.stream(self.texts(file), purpose)) as outcomes:
                        async for text, outcome in outcomes:
                            take(text, outcome, self._ids.popleft())
                            self._add(outcome)
                            bar.update(task, completed=file.read if file else 0, texts=self.count)
                    tasks.cancel_scope.cancel()
            except BaseException:
                if path and self.count and service.settings.cache.enabled:
                    self.say(
                        f"{_texts(self.count)} {'is' if self.count == 1 else 'are'} in the cache; run it again to go on"
                    )
                raise
        if not self.count:
            raise ConfigurationError(f"nothing to embed: {path} has no text in it")
        if path:
            skipped = f"; {self._skipped:,} skipped, the first is {self._first_skipped}" if self._skipped else ""
            self.say(
                f"{_texts(self.count)}, {self._hits:,} of them from the cache; "
                f"{self._tokens:,} tokens embedded{skipped}"
            )

    def opened(self) -> AbstractContextManager[TextFile | None]:
        path = self._sources.path
        if path is None:
            return nullcontext()
        return open_text_file(None if str(path) == "-" else path, self._sources.format)

    def texts(self, file: TextFile | None) -> Iterator[str]:
        """The texts in order; their ids are put down as they are read."""
        for text in self._sources.texts:
            self._ids.append(None)
            yield text
        for row in file.rows() if file else ():
            try:
                text, id = self._read(row)
            except ValueError as exc:
                place = f"{file.name if file else ''}:{row.number}"
                if not self._sources.skip_bad:
                    raise ConfigurationError(f"{place}: {exc}") from None
                self._skipped += 1
                self._first_skipped = self._first_skipped or f"{place}: {exc}"
            else:
                self._ids.append(id)
                yield text

    def _read(self, row: AnyRow) -> tuple[str, Id]:
        """A row's text and id. Raises ValueError with the reason."""
        id_field = self._sources.id_field
        if isinstance(row, BadRow):
            raise ValueError(row.reason)
        if isinstance(row.content, str):
            if id_field:
                raise ValueError(f"a line of text has no field {id_field!r}")
            return row.content, None
        text = text_at(row.content, row.path(self._sources.text_field))
        return text, key_at(row.content, row.path(id_field)) if id_field else None

    def _add(self, outcome: Embedding | Rejection) -> None:
        self.count += 1
        if isinstance(outcome, Rejection):
            self.refused += 1
            self.reason = self.reason or f"text {self.count}: {outcome.kind}, {outcome.reason}"
        elif outcome.cache_hit:
            self._hits += 1
        else:
            self._tokens += outcome.tokens

    async def _watch(self, service: EmbeddingService, bar: Progress, task: TaskID) -> None:
        shown = ""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            state = service.state() or ""
            bar.update(task, description=state or "embedding")
            if state and state != shown and not self._has_bar:
                self.say(f"waiting: {state}")
            shown = state

    def _bar(self) -> Progress:
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
        columns += [TextColumn("{task.fields[texts]:,} texts"), TimeElapsedColumn(), TimeRemainingColumn()]
        return Progress(*columns, console=self._console, disable=not self._has_bar, transient=True)


def _texts(count: int) -> str:
    return f"{count:,} text{'' if count == 1 else 's'}"
