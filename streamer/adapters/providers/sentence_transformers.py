"""Models of the sentence-transformers package, run in this process."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio.to_thread
import numpy as np

from streamer.adapters.providers.packing import packed
from streamer.adapters.providers.wire import check_dimensions
from streamer.core.reading import well_formed
from streamer.core.vectors import Matrix, Purpose, Space
from streamer.cpus import usable_cores
from streamer.errors import ConfigurationError, MissingExtra, RejectedError, RetriableError, quoted
from streamer.protocols import Answer

# Tokens in one forward pass, padding included. Measured with MiniLM on 2 cores: 1024 to 4096 are alike, more is slower.
_CPU_GROUP_TOKENS = 2048
_ACCELERATOR_GROUP_TOKENS = 16_384


class SentenceTransformersProvider:
    """One model with one thread of its own, in which everything that touches it happens.

    The package is not safe to call from two threads: its tokenizer fails with "Already borrowed". Calls therefore
    queue. Within one, texts are sorted by length and cut into groups of about `group_tokens` tokens, padding included,
    so that short texts do not pay for long ones: hand over many at a time.

    `model`: a folder (nothing is then looked for on a network) or a name on the hub. The constructor loads it, which
    takes seconds, and raises ConfigurationError when it cannot. `dimensions`: checked against the model; with
    `request_dimensions` the vectors are cut to it. Prefixes default to the model's own prompts. `device` None lets the
    package choose. `torch_threads` 0 means as many as this process may use of the machine.

    `count_tokens`: tokens of each text, however long, without those that frame it, from any thread; None for a model
    whose tokenizer is written in Python.
    """

    def __init__(
        self,
        *,
        model: str,
        dimensions: int | None = None,
        request_dimensions: bool = False,
        device: str | None = None,
        torch_threads: int = 0,
        group_tokens: int | None = None,
        document_prefix: str | None = None,
        query_prefix: str | None = None,
        on_too_long: str = "truncate",
        revision: str | None = None,
    ) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sentence-transformers")
        try:
            load = partial(_load, model, revision, dimensions if request_dimensions else None, device, torch_threads)
            self._model, found = self._thread.submit(load).result()
            if dimensions is not None:
                check_dimensions(dimensions, found, model, may_cut=False)
        except BaseException:
            self._thread.shutdown()
            raise
        prompts = self._model.prompts or {}
        folder = Path(model)
        self._space = Space(
            provider="sentence-transformers",
            model=folder.name if folder.is_dir() else model,
            dimensions=found,
            revision=revision or (_fingerprint(folder) if folder.is_dir() else ""),
            document_prefix=(prompts.get("document") or "") if document_prefix is None else document_prefix,
            query_prefix=(prompts.get("query") or "") if query_prefix is None else query_prefix,
            on_too_long=on_too_long,
            max_tokens=self._model.max_seq_length or 0,
        )
        backend = getattr(self._model.tokenizer, "backend_tokenizer", None)
        self.count_tokens = None if backend is None else _counter(backend)
        on_cpu = str(self._model.device).startswith("cpu")
        self._group_tokens = group_tokens or (_CPU_GROUP_TOKENS if on_cpu else _ACCELERATOR_GROUP_TOKENS)

    @property
    def space(self) -> Space:
        return self._space

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
        abandoned = threading.Event()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._encode, texts, purpose, abandoned)
        finally:
            abandoned.set()  # a cancelled call must not keep the thread for all of its remaining groups

    async def aclose(self) -> None:
        await anyio.to_thread.run_sync(partial(self._thread.shutdown, cancel_futures=True))

    def _encode(self, texts: Sequence[str], purpose: Purpose, abandoned: threading.Event) -> Answer:
        texts = [well_formed(text) for text in texts]
        try:
            lengths = self._lengths(texts)
            limit = self._space.max_tokens or max(lengths, default=0)
            truncated = [length > limit for length in lengths]
            if any(truncated) and self._space.on_too_long != "truncate":
                raise RejectedError(f"{max(lengths)} tokens; {self._space.model} takes {limit}", kind="too_long")
            tokens = [min(length, limit) for length in lengths]
            vectors = np.empty((len(texts), self._space.dimensions), dtype=np.float32)
            for group in packed(tokens, self._group_tokens):
                if abandoned.is_set():
                    break
                vectors[group] = self._forward([texts[i] for i in group], purpose)
        except MemoryError:
            self._group_tokens = max(1, self._group_tokens // 2)
            raise RetriableError(f"out of memory; groups are now {self._group_tokens} tokens") from None
        return Answer(vectors, tokens=tokens, truncated=truncated, billed_tokens=0)

    def _lengths(self, texts: list[str]) -> list[int]:
        with _translated():
            ids = self._model.tokenizer(texts, truncation=False, padding=False, return_attention_mask=False)[
                "input_ids"
            ]
            return [len(row) for row in ids]

    def _forward(self, texts: list[str], purpose: Purpose) -> Matrix:
        # The prompt is handed over apart from the text because some models leave its tokens out of the mean. It is
        # never None: that would make the package prepend the model's default prompt.
        prompt = self._space.document_prefix if purpose == "document" else self._space.query_prefix
        bare = [text.removeprefix(prompt) for text in texts]
        with _translated():
            rows: Matrix = self._model.encode(bare, prompt=prompt, batch_size=len(bare), show_progress_bar=False)
            return rows


def _load(model: str, revision: str | None, cut: int | None, device: str | None, threads: int) -> tuple[Any, int]:
    """(model, dimensions of its vectors). Runs in the model's own thread, whose setting the thread count is."""
    try:
        sentence_transformers, torch, transformers_logging = map(
            import_module, ("sentence_transformers", "torch", "transformers.utils.logging")
        )
    except ImportError:
        raise MissingExtra("sentence-transformers", "sentence-transformers") from None
    torch.set_num_threads(threads or usable_cores())
    transformers_logging.disable_progress_bar()
    try:
        loaded = sentence_transformers.SentenceTransformer(
            model,
            device=device,
            revision=revision,
            local_files_only=Path(model).is_dir(),
            truncate_dim=cut,
        )
        # Asks for the dimensions in the one way that every version understands, and pays the first call's set-up.
        return loaded, loaded.encode(["warm-up"], prompt="", show_progress_bar=False).shape[1]
    except (OSError, ValueError, RuntimeError) as exc:
        raise ConfigurationError(f"the model {model!r} cannot be loaded: {exc}") from exc


def _counter(backend: Any) -> Callable[[Sequence[str]], list[int]]:
    # A copy: the model's own is set to cut and pad by one thread while another would read it ("Already borrowed").
    tokenizer = type(backend).from_str(backend.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        encodings = tokenizer.encode_batch_fast([well_formed(text) for text in texts], add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    return count


def _fingerprint(folder: Path) -> str:
    """Twelve hex digits of weights, tokenizer and settings, so that the space follows the files."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".bin", ".json", ".txt")):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _translated() -> Iterator[None]:
    """Says of a failure inside the model whether the texts, the memory or the moment is to blame."""
    try:
        yield
    except RuntimeError as exc:
        if "out of memory" in str(exc) or "can't allocate memory" in str(exc):
            raise MemoryError(str(exc)) from exc
        raise RetriableError(f"sentence-transformers: {quoted(str(exc))}") from exc
    except (ValueError, TypeError, IndexError, KeyError) as exc:
        raise RejectedError(f"sentence-transformers: {type(exc).__name__}: {quoted(str(exc))}") from exc
