"""`streamer embed`: vectors without Kafka, to try a provider, to fill the cache, or to fit a projection."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from itertools import chain
from pathlib import Path
from typing import IO

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from streamer.adapters.projection_file import save_projection
from streamer.commands.vector_files import check_output, open_vector_file
from streamer.core.projection import PrincipalAxes
from streamer.core.vectors import Purpose
from streamer.errors import ConfigurationError, StreamerError
from streamer.protocols import Embedding, Rejection
from streamer.service import EmbeddingService
from streamer.settings import Settings

LOOK_SECONDS = 1.0  # how often it is seen whether the provider keeps us waiting


async def embed(
    settings: Settings, texts: list[str], path: Path | None, *, output: Path | None, purpose: Purpose
) -> None:
    """Write a line or row for each text, then for each line of the file that is not blank, in constant memory.

    A run that was interrupted is begun anew: what it had embedded comes out of the cache.
    """
    check_output(output)
    job = Job(texts, path, lines_on_terminal=output is None and sys.stdout.isatty())
    async with EmbeddingService(settings) as service:
        with open_vector_file(output, service.space) as file:
            await job.run(service, purpose, file.write)
    if job.refused:
        raise StreamerError(f"{job.refused} of {job.count} texts have no vector; {job.reason}")


async def fit_pca(
    settings: Settings, texts: list[str], path: Path | None, *, output: Path | None, dimensions: int
) -> None:
    """Fit a projection on `dimensions` axes to the vectors of these texts, and save it for `provider.reduction`."""
    if output is None or output.suffix != ".npz":
        raise ConfigurationError("--fit-pca saves a projection; say where, as in --output pca.npz")
    job = Job(texts, path, lines_on_terminal=False)
    whole = settings.provider.model_copy(update={"reduction": None})
    async with EmbeddingService(settings.model_copy(update={"provider": whole})) as service:
        axes = PrincipalAxes(service.dimensions)

        def take(text: str, outcome: Embedding | Rejection) -> None:  # noqa: ARG001
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


class Job:
    """The texts of the arguments and of a file, embedded under the eyes of a person."""

    def __init__(self, texts: list[str], path: Path | None, *, lines_on_terminal: bool) -> None:
        if not texts and path is None:
            raise ConfigurationError(
                "nothing to embed; give texts as arguments or a file with one text a line (--file)"
            )
        self._texts = texts
        self._path = path
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._has_bar = path is not None and self._console.is_terminal and not lines_on_terminal
        self.count = self.refused = self._hits = self._tokens = 0
        self.reason = ""  # of the first text that has no vector

    def say(self, line: str) -> None:
        self._console.print(line, markup=False)

    async def run(
        self, service: EmbeddingService, purpose: Purpose, take: Callable[[str, Embedding | Rejection], None]
    ) -> None:
        """Hand each text with its outcome to `take`, in order."""
        with _lines(self._path) as (lines, size), self._bar() as bar:
            task = bar.add_task("embedding", total=size, texts=0)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, service, bar, task)
                async with aclosing(service.stream(chain(self._texts, lines), purpose)) as outcomes:
                    async for text, outcome in outcomes:
                        take(text, outcome)
                        self._add(outcome)
                        bar.update(task, advance=len(text.encode("utf-8", "replace")) + 1, texts=self.count)
                tasks.cancel_scope.cancel()
        if not self.count:
            raise ConfigurationError(f"nothing to embed: {self._path} has no text in it")
        if self._path:
            self.say(f"{self.count:,} texts, {self._hits:,} of them from the cache; {self._tokens:,} tokens embedded")

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
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[texts]:,} texts"))
        return Progress(*columns, TimeElapsedColumn(), console=self._console, disable=not self._has_bar, transient=True)


@contextmanager
def _lines(path: Path | None) -> Iterator[tuple[Iterator[str], int | None]]:
    """The lines of a file that are not blank, and its size in bytes; of standard input for `-`."""
    if path is None:
        yield iter(()), None
    elif str(path) == "-":
        yield _texts_of(sys.stdin, "standard input"), None
    else:
        try:
            file = path.open(encoding="utf-8")
        except OSError as exc:
            raise ConfigurationError(f"{path} cannot be read: {exc.strerror}") from exc
        with file:
            yield _texts_of(file, str(path)), path.stat().st_size


def _texts_of(file: IO[str], name: str) -> Iterator[str]:
    try:
        yield from (line.rstrip("\n") for line in file if line.strip())
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{name} is not UTF-8: {exc}") from exc
