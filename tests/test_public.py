"""What is public: the lists, their docstrings, and the errors that a user can catch."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

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


def described(surface: ModuleType) -> dict[str, str | None]:
    """Docstrings: of every public name that should have one, of its public methods and properties."""
    found: dict[str, str | None] = {}
    for name in sorted(set(surface.__all__) - VALUES):
        value = getattr(surface, name)
        found[f"{surface.__name__}.{name}"] = value.__doc__
        ours = [base for base in inspect.getmro(value) if is_ours(base)] if inspect.isclass(value) else []
        members = {m: attribute for base in ours for m, attribute in vars(base).items() if not m.startswith("_")}
        for member, attribute in members.items():
            if callable(attribute) or isinstance(attribute, property | classmethod):
                found[f"{surface.__name__}.{name}.{member}"] = attribute.__doc__
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


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.__name__)
def test_every_public_name_says_what_it_is(surface: ModuleType) -> None:
    for name, docstring in described(surface).items():
        text = inspect.cleandoc(docstring or "")
        assert len(text.split()) >= 2, name
        assert not RIDDLE.match(text), name
        assert text[0].isupper() or text[0] == "`", name


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


# What each statement must not have loaded, with those above it.
IMPORTS = [
    {
        "import streamer, streamer.client": "numpy pydantic anyio aiokafka httpx orjson",
        "from streamer import cosine_similarity, StreamerError": "anyio pydantic aiosqlite",
        "import streamer.testing": "pytest _pytest aiokafka pydantic",
        "from streamer.client import SearchClient": "aiokafka pydantic",
    },
    {"from streamer.client import TextProducer": "httpx pydantic"},
]


@pytest.mark.parametrize("statements", IMPORTS, ids=["without Kafka", "with Kafka"])
def test_nothing_is_loaded_before_it_is_needed(statements: dict[str, str]) -> None:
    code = "import sys\n" + "".join(
        f"{statement}\nfound = {set(unwanted.split())!r} & set(sys.modules)\nif found: print({statement!r}, found)\n"
        for statement, unwanted in statements.items()
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == ""
