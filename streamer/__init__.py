"""Text events in, embedding vectors out.

For Python programs: `EmbeddingService` embeds texts without Kafka, and a few functions compare vectors.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer.core.measures import (
        cosine_similarity,
        dot_product,
        euclidean_distance,
        find_most_similar,
        normalize,
    )
    from streamer.service import EmbeddingService, TextsRejected

    __version__: str

__all__ = [
    "EmbeddingService",
    "TextsRejected",
    "__version__",
    "cosine_similarity",
    "dot_product",
    "euclidean_distance",
    "find_most_similar",
    "normalize",
]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `import streamer` is what every command begins with, and numpy alone takes a tenth second.
    if name == "__version__":
        return import_module("streamer.version").version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "streamer.service" if name in ("EmbeddingService", "TextsRejected") else "streamer.core.measures"
    return getattr(import_module(module), name)
