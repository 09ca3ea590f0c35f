"""The arguments of a service, as settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamer.errors import ConfigurationError
from streamer.protocols import Provider
from streamer.settings import ProviderName, ProviderSettings, Settings, load_settings

# What of [provider] applies to a Provider object, too; the object decides the rest.
CALL_LIMITS = (
    "max_items", "max_item_tokens", "max_request_tokens", "max_concurrent_requests", "requests_per_minute",
    "tokens_per_minute", "texts_per_minute", "timeout_seconds", "reduction", "max_spend_per_day",
    "max_spend_per_month", "max_spend", "budget", "max_tokens_per_day", "max_requests_per_day",
    "price_per_million_tokens",
)  # fmt: skip


class ServiceBase:
    """What EmbeddingService and SyncEmbeddingService have in common: the settings."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        provider: ProviderName | Provider | None = None,
        model: str | None = None,
        dimensions: int | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        **options: Any,
    ) -> None:
        """Check the settings; nothing is opened yet.

        - `settings`: where the other arguments start from. By default `streamer.toml` in the working directory, if
          there is one, and the environment, as for the command line.
        - `provider`: a provider's name ("onnx", "openai", ...), or an object with the methods of `streamer.Provider`.
          The service closes that object when it is closed.
        - `model`, `dimensions`, `api_key`, `base_url`: keys of the settings' section [provider].
        - `options`: any other key of [provider] by its name (`requests_per_minute=500`), and keys of other sections
          with the section in front (`cache__enabled=False`, `input__on_too_long="chunk"`).

        Raises ConfigurationError when a setting is unknown or wrong.
        """
        named = {"model": model, "dimensions": dimensions, "api_key": api_key, "base_url": base_url}
        arguments = {name: value for name, value in named.items() if value is not None} | options
        self._provider: Provider | None = None
        if isinstance(provider, str):
            arguments["provider"] = provider
        elif provider is not None:
            self._provider = _checked(provider, arguments)
        keys = {name: _key_of(name) for name in arguments}
        self.settings = load_settings(
            overrides={keys[name]: value for name, value in arguments.items()},
            base=settings,
            argument_of={key: name for name, key in keys.items()},
        )

    def _described(self) -> str:
        """The repr while it is closed."""
        wanted, own = self.settings.provider, self._provider
        name, model = (wanted.name, wanted.model) if own is None else (own.space.provider, own.space.model)
        return f"<{type(self).__name__} {name} {model or '(its default model)'}, closed>"


def _checked(provider: Provider, arguments: Mapping[str, Any]) -> Provider:
    if missing := [name for name in ("space", "embed", "aclose") if not hasattr(provider, name)]:
        raise TypeError(
            f"provider must be a provider's name or a streamer.Provider; this {type(provider).__name__} lacks "
            f"{', '.join(missing)}"
        )
    for name in arguments:
        if name in ProviderSettings.model_fields and name not in CALL_LIMITS:
            raise ConfigurationError(
                f"{name}=...: the provider object decides this itself; beside it, {', '.join(CALL_LIMITS)} may be given"
            )
    return provider


def _key_of(argument: str) -> str:
    """The setting, as `section.key`, that a keyword argument stands for."""
    section, delimiter, key = argument.partition("__")
    if argument == "provider":
        return "provider.name"
    if argument in ProviderSettings.model_fields:
        return f"provider.{argument}"
    if delimiter and section in Settings.model_fields:
        return f"{section}.{key}"
    raise ConfigurationError(
        f"{argument}=...: unknown; known are provider, section__key and the keys of [provider]: "
        f"{', '.join(ProviderSettings.model_fields)}"
    )
