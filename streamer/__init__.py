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
    from streamer.measures import (
        Neighbor,
        cosine_similarity,
        dot_product,
        euclidean_distance,
        find_most_similar,
        neighbor_agreement,
        normalize,
    )
    from streamer.protocols import Answer, Embedding, Provider, Rejection
    from streamer.service import EmbeddingService, SimilarText, TextsRejected
    from streamer.service_sync import SyncEmbeddingService
    from streamer.settings import Settings, load_settings

    __version__: str

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
    "neighbor_agreement",
    "normalize",
]

# Where each name is defined.
_HOMES = {
    "Answer": "streamer.protocols.Answer",
    "ConfigurationError": "streamer.errors.ConfigurationError",
    "Embedding": "streamer.protocols.Embedding",
    "EmbeddingService": "streamer.service.EmbeddingService",
    "Matrix": "streamer.core.vectors.Matrix",
    "MissingExtra": "streamer.errors.MissingExtra",
    "Neighbor": "streamer.measures.Neighbor",
    "Provider": "streamer.protocols.Provider",
    "ProviderBlocked": "streamer.errors.ProviderBlocked",
    "Purpose": "streamer.core.vectors.Purpose",
    "RateLimited": "streamer.errors.RateLimited",
    "RejectedError": "streamer.errors.RejectedError",
    "Rejection": "streamer.protocols.Rejection",
    "RetriableError": "streamer.errors.RetriableError",
    "Settings": "streamer.settings.Settings",
    "SimilarText": "streamer.service.SimilarText",
    "Space": "streamer.core.vectors.Space",
    "SpaceMismatch": "streamer.errors.SpaceMismatch",
    "StreamerError": "streamer.errors.StreamerError",
    "SyncEmbeddingService": "streamer.service_sync.SyncEmbeddingService",
    "TextsRejected": "streamer.service.TextsRejected",
    "Unreachable": "streamer.errors.Unreachable",
    "Vector": "streamer.core.vectors.Vector",
    "cosine_similarity": "streamer.measures.cosine_similarity",
    "dot_product": "streamer.measures.dot_product",
    "euclidean_distance": "streamer.measures.euclidean_distance",
    "find_most_similar": "streamer.measures.find_most_similar",
    "load_settings": "streamer.settings.load_settings",
    "neighbor_agreement": "streamer.measures.neighbor_agreement",
    "normalize": "streamer.measures.normalize",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `import streamer` is what every command begins with, and numpy alone takes a tenth second.
    if name == "__version__":
        return import_module("streamer.version").version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].rpartition(".")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
