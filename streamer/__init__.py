"""Text events in, embedding vectors out.

For Python programs: `EmbeddingService` embeds texts without Kafka, `SyncEmbeddingService` does so without async and
await, and a few functions compare vectors. `streamer.client` publishes texts, follows vectors and verdicts, and asks
the index; `streamer.testing` helps to test programs that do. What `__all__` of these three lists is public; anything
else may change without notice.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer.core.measures import (
        Neighbor,
        cosine_similarity,
        dot_product,
        euclidean_distance,
        find_most_similar,
        normalize,
    )
    from streamer.core.vectors import Matrix, Purpose, Space, Vector
    from streamer.errors import (
        ConfigurationError,
        MissingExtra,
        ProviderBlocked,
        RateLimited,
        RejectedError,
        RetriableError,
        SpaceMismatch,
        StreamerError,
        Unreachable,
    )
    from streamer.protocols import Answer, Embedding, Provider, Rejection
    from streamer.service import EmbeddingService, SimilarText, TextsRejected
    from streamer.service_sync import SyncEmbeddingService
    from streamer.settings import Settings, load_settings

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "ConfigurationError",
    "Embedding",
    "EmbeddingService",
    "Matrix",
    "MissingExtra",
    "Neighbor",
    "Provider",
    "ProviderBlocked",
    "Purpose",
    "RateLimited",
    "RejectedError",
    "Rejection",
    "RetriableError",
    "Settings",
    "SimilarText",
    "Space",
    "SpaceMismatch",
    "StreamerError",
    "SyncEmbeddingService",
    "TextsRejected",
    "Unreachable",
    "Vector",
    "__version__",
    "cosine_similarity",
    "dot_product",
    "euclidean_distance",
    "find_most_similar",
    "load_settings",
    "normalize",
]

_HOMES = {
    "Answer Embedding Provider Rejection": "streamer.protocols",
    "EmbeddingService SimilarText TextsRejected": "streamer.service",
    "Matrix Purpose Space Vector": "streamer.core.vectors",
    "Neighbor cosine_similarity dot_product euclidean_distance find_most_similar normalize": "streamer.core.measures",
    "Settings load_settings": "streamer.settings",
    "SyncEmbeddingService": "streamer.service_sync",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `import streamer` is what every command begins with, and numpy alone takes a tenth second.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for names, home in _HOMES.items() if name in names.split()), "streamer.errors")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
