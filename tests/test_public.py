"""What is public: the lists, their docstrings, and the errors that a user can catch."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import streamer
import streamer.client
import streamer.testing

SURFACES = [streamer, streamer.client, streamer.testing]
VALUES = {"Matrix", "Purpose", "Vector", "__version__", "SPACE"}  # no docstring of their own

EXPECTED = {
    streamer: """Answer ConfigurationError Embedding EmbeddingService Matrix MissingExtra Neighbor Provider
        ProviderBlocked Purpose RateLimited RejectedError Rejection RetriableError Settings SimilarText Space
        SpaceMismatch StreamerError SyncEmbeddingService TextsRejected Unreachable Vector __version__
        cosine_similarity dot_product euclidean_distance find_most_similar load_settings neighbor_agreement
        normalize""",
    streamer.client: """ConfigurationError Connection Deletion NearestEvent SearchClient SearchMatch ServingTopics
        StreamerError Text Refused TextProducer TextSource TooLarge TopicPartition Unreachable VectorConsumer
        VectorEvent Verdict VerdictConsumer serving_topics""",
    streamer.testing: """HashEmbedder HashProvider MemoryCache MemoryConsumer MemorySink MemorySource SPACE record
        record_of vector_event vector_of verdict""",
}

# What only makes sense after the docstring above it.
RIDDLE = re.compile(r"^(Those|These|The same|The others?|They|It|That|This|Of one|Ditto|And|But|Same|Also)\b")


def described(surface: ModuleType) -> list[Any]:
    """Every public name that should have a docstring, with its public methods and properties."""
    found = []
    for name in sorted(set(surface.__all__) - VALUES):
        value = getattr(surface, name)
        found.append(pytest.param(value.__doc__, id=f"{surface.__name__}.{name}"))
        ours = [base for base in inspect.getmro(value) if is_ours(base)] if inspect.isclass(value) else []
        members = {m: attribute for base in ours for m, attribute in vars(base).items() if not m.startswith("_")}
        for member, attribute in members.items():
            if callable(attribute) or isinstance(attribute, property | classmethod):
                found.append(pytest.param(attribute.__doc__, id=f"{surface.__name__}.{name}.{member}"))
    return found


def is_ours(kind: type) -> bool:
    """Whether a class is of this package; what others bring is theirs to describe."""
    return kind.__module__.partition(".")[0] == "streamer"


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.__name__)
def test_the_list_is_the_list(surface: ModuleType) -> None:
    assert sorted(surface.__all__) == sorted(EXPECTED[surface].split())
    assert set(surface.__all__) <= set(dir(surface))
    assert all(getattr(surface, name) is not None for name in surface.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        surface.nonsense  # noqa: B018


@pytest.mark.parametrize("docstring", [one for surface in SURFACES for one in described(surface)])
def test_every_public_name_says_what_it_is(docstring: str | None) -> None:
    text = inspect.cleandoc(docstring or "")
    assert len(text.split()) >= 2
    assert not RIDDLE.match(text)
    assert text[0].isupper() or text[0] == "`"


def test_errors_are_the_same_class_wherever_they_are_imported_from() -> None:
    """First hour R4."""
    from streamer import errors

    for surface in (streamer, streamer.client):
        for name in surface.__all__:
            if inspect.isclass(value := getattr(surface, name)) and issubclass(value, Exception):
                assert issubclass(value, errors.StreamerError), name
                assert value is getattr(errors, name, value)


def test_arguments_complete_in_an_editor() -> None:
    """First hour R5."""
    for service in (streamer.EmbeddingService, streamer.SyncEmbeddingService):
        parameters = inspect.signature(service).parameters
        assert list(parameters) == ["settings", "provider", "model", "dimensions", "api_key", "base_url", "options"]
        assert "requests_per_minute" in (service.__init__.__doc__ or "")


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import streamer, streamer.client", "numpy pydantic anyio aiokafka httpx orjson"),
        ("from streamer.client import SearchClient", "aiokafka pydantic"),
        ("from streamer.client import TextProducer", "httpx pydantic"),
        ("from streamer import cosine_similarity, StreamerError", "anyio pydantic aiosqlite"),
        ("import streamer.testing", "pytest _pytest aiokafka pydantic"),
    ],
)
def test_nothing_is_loaded_before_it_is_needed(statement: str, unwanted: str) -> None:
    code = f"import sys\n{statement}\nprint(*({set(unwanted.split())!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == ""
