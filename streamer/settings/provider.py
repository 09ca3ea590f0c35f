"""What can be set about the embedding model and the ways to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, SecretStr, model_validator

from streamer.core.vendors import VENDORS
from streamer.settings.base import Positive, Section

ProviderName: TypeAlias = Literal["onnx", "sentence-transformers", "static", "openai", "cohere", "voyage", "ollama"]

# Options that only one kind of provider knows. With another they would be taken and never used.
OPTIONS_OF: Final[Mapping[str, str]] = {
    "headers": "openai",
    "azure_api_version": "openai",
    "azure_deployment": "openai",
    "encoding_format": "openai",
    "keep_alive": "ollama",
    "precision": "onnx",
}


class FallbackSettings(Section):
    """Another way to the same model. What is left out is as in [provider], but never sent to another `base_url`."""

    name: ProviderName | None = Field(None, description="must be that of [provider]: another is another space")
    model: str | None = Field(None, description="must be that of [provider]: another is another space")
    base_url: str | None = Field(
        None, description="the other address; key, Azure settings and headers are then its own"
    )
    api_key: SecretStr | None = Field(None, description="the key itself; api_key_env keeps it out of the file")
    api_key_env: str | None = Field(None, description="the environment variable that holds the key")
    azure_api_version: str | None = Field(None, description="as in [provider]")
    azure_deployment: str | None = Field(None, description="as in [provider]")
    headers: dict[str, SecretStr] = Field({}, description="as in [provider]")

    @model_validator(mode="after")
    def _is_another_way(self) -> FallbackSettings:
        if not (self.base_url or self.api_key or self.azure_deployment or self.headers):
            raise ValueError("an entry needs a base_url, an api_key_env or an azure_deployment of its own")
        return self


class ProviderSettings(Section):
    """The embedding model and how to reach it."""

    name: ProviderName = Field("onnx", description="who makes the vectors")
    model: str | None = Field(
        None,
        examples=["all-MiniLM-L6-v2"],
        description="the provider's model name, or a folder; default: see providers.md",
    )
    dimensions: Positive | None = Field(
        None, examples=[256], description="length of the vectors, where the model offers a choice"
    )
    matryoshka: bool | None = Field(
        None, examples=[True], description="the model's vectors may be cut; for models that are not in the table"
    )
    reduction: Path | None = Field(
        None, examples=["pca.npz"], description="a projection to fewer dimensions, made by streamer embed --fit-pca"
    )
    max_item_tokens: Positive | None = Field(
        None, examples=[512], description="tokens that the model reads of one text; for models not in the table"
    )
    max_items: Positive | None = Field(
        None, examples=[32], description="texts in one request; for models that are not in the table"
    )
    max_request_tokens: Positive | None = Field(None, examples=[100_000], description="tokens in one request")
    base_url: str | None = Field(
        None, examples=["http://localhost:8000/v1"], description="address of the service; default: the vendor's own"
    )
    api_key: SecretStr | None = Field(
        None,
        description="set it in the environment; for the vendor's own address its own variable, such as OPENAI_API_KEY, "
        "works as well",
    )
    api_key_env: str | None = Field(
        None,
        examples=["OPENAI_API_KEY"],
        description="the environment variable that holds the key, where base_url is another server's",
    )
    input_type: str | None = Field(
        None,
        examples=["search_document"],
        description="request parameter for documents, where the service has one; default: by model",
    )
    query_input_type: str | None = Field(
        None,
        examples=["search_query"],
        description="request parameter for queries, where the service has one; default: by model",
    )
    document_prefix: str | None = Field(
        None, examples=["passage: "], description="put before each document; default: what the model was trained with"
    )
    query_prefix: str | None = Field(
        None, examples=["query: "], description="put before each query; default: what the model was trained with"
    )
    max_concurrent_requests: Positive | None = Field(
        None, examples=[8], description="requests open at the same time; default: 8, or 2 batches for a local model"
    )
    requests_per_minute: Positive | None = Field(
        None, examples=[3_000], description="the account's limit; default: learned from the answers"
    )
    tokens_per_minute: Positive | None = Field(
        None, examples=[1_000_000], description="the account's limit; default: learned from the answers"
    )
    texts_per_minute: Positive | None = Field(
        None,
        examples=[6_000],
        description="the most to send of all texts; default: what the vendor allows, if anything",
    )
    max_spend_per_day: Annotated[float, Field(gt=0)] | None = Field(
        None,
        examples=[50.0],
        description="US dollars in a day (UTC), of all workers that share the cache; at the limit intake pauses until "
        "the next day",
    )
    max_spend_per_month: Annotated[float, Field(gt=0)] | None = Field(
        None, examples=[1_000.0], description="the same in a calendar month (UTC)"
    )
    max_spend: Annotated[float, Field(gt=0)] | None = Field(
        None,
        examples=[20.0],
        description="US dollars in all, counted from the first call with this limit; for one piece of work: budget",
    )
    budget: str | None = Field(
        None,
        min_length=1,
        examples=["backfill"],
        description="a name under which costs are counted by themselves; default: with all others of the same vendor",
    )
    max_tokens_per_day: Positive | None = Field(
        None, examples=[500_000_000], description="billed tokens in a day (UTC); works where no price is known, too"
    )
    max_requests_per_day: Positive | None = Field(
        None, examples=[50_000], description="requests in a day (UTC), whatever comes of them"
    )
    price_per_million_tokens: Annotated[float, Field(ge=0)] | None = Field(
        None,
        examples=[0.02],
        description="US dollars that you pay; default: the list price of the model, see costs.md",
    )
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        60.0, description="for one request; a request that timed out is repeated with more time"
    )
    threads: Positive | None = Field(
        None, examples=[2], description="threads of a local model; default: the number of cores"
    )
    precision: Literal["int8", "float32"] | None = Field(
        None,
        examples=["float32"],
        description="onnx: how the model computes; another is another space. Default: int8 where the model has ranges "
        "for it, as the bundled one does",
    )
    device: str | None = Field(
        None, examples=["cpu"], description="sentence-transformers: cpu, cuda or mps; default: the best there is"
    )
    azure_api_version: str | None = Field(
        None, examples=["2024-10-21"], description="openai: says that base_url is an Azure resource"
    )
    azure_deployment: str | None = Field(
        None, examples=["embeddings"], description="openai on Azure: the deployment; default: the model's name"
    )
    headers: dict[str, SecretStr] = Field(
        {}, examples=[{"X-Team": "search"}], description="openai: extra request headers for a compatible server"
    )
    encoding_format: Literal["base64", "float", "none"] = Field(
        "base64",
        description="openai: how vectors travel; float for servers that reject base64, none leaves the field out; "
        "a rejected one is replaced by the next at the first request",
    )
    keep_alive: str | None = Field(None, examples=["30m"], description="ollama: how long the model stays loaded")
    fallback: list[FallbackSettings] = Field([], description="other ways to the same model, asked while this one fails")

    @model_validator(mode="after")
    def _has_ways_to_fall_back_on(self) -> ProviderSettings:
        if self.fallback and VENDORS[self.name].is_local:
            raise ValueError(f"{self.name} runs in this process: there is no other way to it, so no fallback")
        return self

    @model_validator(mode="after")
    def _is_used(self) -> ProviderSettings:
        for option, name in OPTIONS_OF.items():
            default = type(self).model_fields[option].default  # changes nothing: `streamer config` prints it, too
            if name != self.name and any(
                getattr(entry, option, default) not in (default, None, {}, "") for entry in (self, *self.fallback)
            ):
                raise ValueError(f"{option} is for provider.name = {name!r}; {self.name} would not use it: remove it")
        return self
