"""What each embedding model demands and promises, as data: one row a model.

Sources, named in the rows' comments by their letter; their figures are those of 2026-11-24.

O: https://platform.openai.com/docs/api-reference/embeddings/create, as in the client openai 3.54.0.
V: https://docs.voyageai.com/reference/embeddings-api, as in the client voyageai 0.5.0.
C: https://docs.cohere.com/v2/reference/embed, as in the client cohere 7.3.1; https://docs.cohere.com/docs/cohere-embed;
   https://docs.cohere.com/v2/docs/rate-limits.
CO: https://docs.oracle.com/iaas/Content/generative-ai/cohere-embed-4.htm, Oracle's page on the same model.
L: https://github.com/ollama/ollama/blob/main/docs/api.md, server/routes.go in there, and the models' pages under
   https://ollama.com/library.
M: the model card and the configuration published with the weights, under the model's name.
W: ours, chosen, not demanded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from streamer.core.vendors import VENDORS
from streamer.errors import ConfigurationError

Truncation: TypeAlias = Literal["never", "optional", "always"]
Billing: TypeAlias = Literal["tokens", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """One model at one provider. None as a cap means that there is none.

    `dimensions`: what comes when nothing is asked for; `allowed_dimensions`: what may be asked for (empty: only that);
    `matryoshka`: trained so that the first components of a vector, renormalised, are a vector as well;
    `native_dimensions`: of its own vectors, None where that is not known.
    `max_item_tokens`: what the model reads of one text. `truncation`: whether the provider itself cuts a longer one:
    never (it refuses), optional (a parameter decides) or always (silently).
    `*_input_type` is a parameter of the call, `*_prefix` a part of the text; a model has one or the other or neither.
    `billed`: what is paid for. `limits`: what the account's limits per minute count; the `*_per_minute` figures are
    published ones that hold for every account, None where they depend on the account.
    `is_local`: runs in this process, so it takes any number of texts and groups them itself.
    """

    provider: str
    model: str
    dimensions: int
    max_item_tokens: int
    max_items: int | None
    max_request_tokens: int | None = None
    max_request_bytes: int | None = None
    allowed_dimensions: Collection[int] = ()
    matryoshka: bool = False
    native_dimensions: int | None = None
    document_input_type: str = ""
    query_input_type: str = ""
    document_prefix: str = ""
    query_prefix: str = ""
    truncation: Truncation = "never"
    billed: Billing = "tokens"
    limits: tuple[str, ...] = ("requests", "tokens")
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    items_per_minute: int | None = None
    is_local: bool = False

    def dimensions_for(self, wanted: int | None) -> int:
        """The length of the vectors when `wanted` is asked for (None: nothing); ConfigurationError if not offered."""
        if wanted is None or wanted == self.dimensions or wanted in self.allowed_dimensions:
            return self.dimensions if wanted is None else wanted
        raise ConfigurationError(
            f"{self.provider} {self.model} has no vectors of {wanted} dimensions; allowed: {self._allowed()}; "
            "any smaller number takes a provider.reduction"
        )

    def _allowed(self) -> str:
        allowed = self.allowed_dimensions
        if isinstance(allowed, range):
            return f"{allowed.start} to {allowed.stop - 1}"
        return ", ".join(str(dimensions) for dimensions in sorted({self.dimensions, *allowed}))


def contract_for(provider: str, model: str, **explicit: Any) -> Contract:
    """The row of this model, with the fields given in `explicit` replaced (None: not given).

    A model is found by its name in any case, with or without the organisation before it (`BAAI/bge-m3`), a folder's
    path or the tag `:latest`. For any other, `explicit` must hold what cannot be guessed; a ConfigurationError says
    which values are missing.
    """
    given = {name: value for name, value in explicit.items() if value is not None}
    row = _TABLE.get((provider, _canonical(model)))
    if row is not None:
        return replace(row, model=model, **given)
    is_local = given.get("is_local", provider in _LOCAL)
    required = ["dimensions", "max_item_tokens"] if is_local else ["dimensions", "max_item_tokens", "max_items"]
    missing = [name for name in required if name not in given]
    if missing:
        raise ConfigurationError(
            f"the model {model!r} of {provider!r} is not in the table of known models; "
            f"set {', '.join(missing)} for it, or use one of: {', '.join(known_models(provider)) or 'none is known'}"
        )
    defaults = {"max_items": None, "billed": "nothing", "limits": (), "truncation": "always"} if is_local else {}
    return Contract(provider=provider, model=model, **{**defaults, "is_local": is_local, **given})


def is_known(provider: str, model: str) -> bool:
    """Whether there is a row for this model."""
    return (provider, _canonical(model)) in _TABLE


def known_models(provider: str) -> list[str]:
    """The models of this provider that need no explicit values."""
    return [row.model for (name, _), row in _TABLE.items() if name == provider]


def _canonical(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1].casefold().removesuffix(":latest")


_OPENAI = Contract(
    provider="openai",
    model="",
    dimensions=1536,
    max_item_tokens=8191,  # O says 8192, its guide 8191
    max_items=2048,  # O
    max_request_tokens=300_000,  # O
)
_VOYAGE = Contract(
    provider="voyage",
    model="",
    dimensions=1024,
    max_item_tokens=32_000,  # V
    max_items=1000,  # V; 128 in older editions
    document_input_type="document",
    query_input_type="query",
    truncation="optional",  # V: on unless switched off
)
_COHERE = Contract(
    provider="cohere",
    model="",
    dimensions=1024,
    max_item_tokens=512,  # C
    max_items=96,  # C
    document_input_type="search_document",
    query_input_type="search_query",
    truncation="optional",  # C: NONE, START or END
    limits=("items",),
    items_per_minute=2000,  # C: inputs, for trial and production keys alike
)
_OLLAMA = Contract(
    provider="ollama",
    model="",
    dimensions=0,
    max_item_tokens=512,
    max_items=256,  # W: the API has no cap, but one answer should not take minutes on a CPU
    truncation="optional",  # L: on unless switched off
    billed="nothing",
    limits=(),
)
_IN_PROCESS = Contract(
    provider="",
    model="",
    dimensions=0,
    max_item_tokens=512,
    max_items=None,
    truncation="always",
    billed="nothing",
    limits=(),
    is_local=True,
)
_LOCAL = [vendor.name for vendor in VENDORS.values() if vendor.is_local]

_MRL_VOYAGE = {"allowed_dimensions": (256, 512, 1024, 2048), "matryoshka": True}  # V
_MRL_NOMIC = {"allowed_dimensions": (64, 128, 256, 512, 768), "matryoshka": True}  # M
_MRL_MXBAI = {"allowed_dimensions": (128, 256, 512, 768, 1024), "matryoshka": True}  # M
_NOMIC = {"document_prefix": "search_document: ", "query_prefix": "search_query: "}  # M
_E5 = {"document_prefix": "passage: ", "query_prefix": "query: "}  # M
_SEARCHING = {"query_prefix": "Represent this sentence for searching relevant passages: "}  # M: bge v1.5, mxbai, arctic


def _rows() -> Iterable[Contract]:
    more: dict[str, Any]
    # O: shortened on request; cutting and renormalising gives the same. `ada-002` does not take `dimensions`.
    yield replace(_OPENAI, model="text-embedding-3-small", allowed_dimensions=range(1, 1537), matryoshka=True)
    yield replace(
        _OPENAI, model="text-embedding-3-large", dimensions=3072, allowed_dimensions=range(1, 3073), matryoshka=True
    )
    yield replace(_OPENAI, model="text-embedding-ada-002")

    for model, request_tokens, more in (  # V
        ("voyage-4-large", 120_000, _MRL_VOYAGE),
        ("voyage-4", 320_000, _MRL_VOYAGE),
        ("voyage-4-lite", 1_000_000, _MRL_VOYAGE),
        ("voyage-3.5", 320_000, _MRL_VOYAGE),
        ("voyage-3.5-lite", 1_000_000, _MRL_VOYAGE),
        ("voyage-3-large", 120_000, _MRL_VOYAGE),
        ("voyage-code-3", 120_000, _MRL_VOYAGE),
        ("voyage-3", 320_000, {}),
        ("voyage-3-lite", 1_000_000, {"dimensions": 512}),
    ):
        yield replace(_VOYAGE, model=model, max_request_tokens=request_tokens, **more)

    yield replace(_COHERE, model="embed-english-v3.0")
    yield replace(_COHERE, model="embed-multilingual-v3.0")
    yield replace(_COHERE, model="embed-english-light-v3.0", dimensions=384)
    yield replace(_COHERE, model="embed-multilingual-light-v3.0", dimensions=384)
    yield replace(
        _COHERE,
        model="embed-v4.0",
        dimensions=1536,
        allowed_dimensions=(256, 512, 1024, 1536),
        matryoshka=True,
        max_item_tokens=128_000,
        max_request_tokens=128_000,  # CO: all texts of a call together
    )

    for model, dimensions, item_tokens, more in (  # L
        # The server clamps the advertised 8192 to the 2048 that the published weights were converted with.
        ("nomic-embed-text", 768, 2048, {**_NOMIC, **_MRL_NOMIC}),
        ("nomic-embed-text:v1.5", 768, 2048, {**_NOMIC, **_MRL_NOMIC}),
        ("mxbai-embed-large", 1024, 512, {**_SEARCHING, **_MRL_MXBAI}),
        ("all-minilm", 384, 256, {}),
        ("all-minilm:22m", 384, 256, {}),
        ("all-minilm:33m", 384, 256, {}),
        ("bge-m3", 1024, 8192, {}),
        ("snowflake-arctic-embed", 1024, 512, _SEARCHING),
        ("snowflake-arctic-embed:335m", 1024, 512, _SEARCHING),
        ("snowflake-arctic-embed:137m", 768, 2048, _SEARCHING),
        ("snowflake-arctic-embed:110m", 768, 512, _SEARCHING),
        ("snowflake-arctic-embed:33m", 384, 512, _SEARCHING),
        ("snowflake-arctic-embed:22m", 384, 512, _SEARCHING),
    ):
        yield replace(_OLLAMA, model=model, dimensions=dimensions, max_item_tokens=item_tokens, **more)

    for model, dimensions, item_tokens, more in (  # M
        ("all-MiniLM-L6-v2", 384, 256, {}),
        ("all-MiniLM-L12-v2", 384, 128, {}),
        ("all-mpnet-base-v2", 768, 384, {}),
        ("bge-small-en-v1.5", 384, 512, _SEARCHING),
        ("bge-base-en-v1.5", 768, 512, _SEARCHING),
        ("bge-large-en-v1.5", 1024, 512, _SEARCHING),
        ("bge-m3", 1024, 8192, {}),
        ("e5-small-v2", 384, 512, _E5),
        ("e5-base-v2", 768, 512, _E5),
        ("e5-large-v2", 1024, 512, _E5),
        ("multilingual-e5-small", 384, 512, _E5),
        ("multilingual-e5-base", 768, 512, _E5),
        ("multilingual-e5-large", 1024, 512, _E5),
        ("nomic-embed-text-v1.5", 768, 8192, {**_NOMIC, **_MRL_NOMIC}),
        ("mxbai-embed-large-v1", 1024, 512, {**_SEARCHING, **_MRL_MXBAI}),
    ):
        for provider in _LOCAL:
            yield replace(
                _IN_PROCESS,
                provider=provider,
                model=model,
                dimensions=dimensions,
                max_item_tokens=item_tokens,
                **more,
            )


_TABLE = {(row.provider, _canonical(row.model)): row for row in _rows()}
