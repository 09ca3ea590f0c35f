"""What each embedding model demands and promises, as data: one row a model.

Sources, named in the rows' comments by their letter. O: OpenAI API reference, "Create embeddings". V: Voyage AI API
reference, "Text embeddings", and its rate limit page. C: Cohere API reference v2, "Embed", its model page and its rate
limit page; CO: Oracle's page on the same model. L: Ollama's API reference and the model's page in its library. M: the
model card and the configuration files that are published with the weights. W: ours, chosen, not demanded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from streamer.errors import ConfigurationError

Truncation: TypeAlias = Literal["never", "optional", "always"]
Billing: TypeAlias = Literal["tokens", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """One model at one provider. None as a cap means that there is none.

    `dimensions`: what comes when nothing is asked for; `allowed_dimensions`: what may be asked for (empty: only that);
    `matryoshka`: trained so that the first components of a vector, renormalised, are a vector as well.
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
            f"{self.provider} {self.model} has no vectors of {wanted} dimensions; allowed: {self._allowed()}"
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


def known_models(provider: str) -> list[str]:
    """The models of this provider that need no explicit values."""
    return [row.model for (name, _), row in _TABLE.items() if name == provider]


def _canonical(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1].casefold().removesuffix(":latest")


_OPENAI = Contract(
    provider="openai",
    model="",
    dimensions=1536,
    max_item_tokens=8191,  # O says 8192; the models' page has said 8191
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
    dimensions=768,
    max_item_tokens=512,
    max_items=256,  # W: the API has no cap, but one answer should not take minutes on a CPU
    truncation="optional",  # L: on unless switched off
    billed="nothing",
    limits=(),
)
_LOCAL_ROW = Contract(
    provider="",
    model="",
    dimensions=384,
    max_item_tokens=512,
    max_items=None,
    truncation="always",
    billed="nothing",
    limits=(),
    is_local=True,
)
_LOCAL = ("sentence-transformers", "onnx")

_MRL_VOYAGE = (256, 512, 1024, 2048)
_SEARCHING = "Represent this sentence for searching relevant passages: "


def _rows() -> Iterable[Contract]:
    # The vendor shortens on request, and says that cutting and renormalising gives the same (O).
    yield replace(_OPENAI, model="text-embedding-3-small", allowed_dimensions=range(1, 1537), matryoshka=True)
    yield replace(
        _OPENAI, model="text-embedding-3-large", dimensions=3072, allowed_dimensions=range(1, 3073), matryoshka=True
    )
    yield replace(_OPENAI, model="text-embedding-ada-002")  # O: takes no `dimensions`

    # V: 120,000 tokens a request for the large and the special models, 320,000 and 1,000,000 for the smaller ones.
    mrl = replace(_VOYAGE, allowed_dimensions=_MRL_VOYAGE, matryoshka=True)
    yield replace(mrl, model="voyage-3-large", max_request_tokens=120_000)
    yield replace(mrl, model="voyage-code-3", max_request_tokens=120_000)
    yield replace(mrl, model="voyage-3.5", max_request_tokens=320_000)
    yield replace(mrl, model="voyage-3.5-lite", max_request_tokens=1_000_000)
    yield replace(_VOYAGE, model="voyage-3", max_request_tokens=320_000)
    yield replace(_VOYAGE, model="voyage-3-lite", dimensions=512, max_request_tokens=1_000_000)

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


_TABLE = {(row.provider, _canonical(row.model)): row for row in _rows()}
