"""Where values come from: one TOML file, overridden by the environment, overridden by flags, refused when wrong.

Nothing else is opened here. A refusal names the key, the value and what would be right.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from streamer.core.vendors import key_variable
from streamer.errors import ConfigurationError, without_credentials
from streamer.settings.base import Section
from streamer.settings.provider import OPTIONS_OF, FallbackSettings
from streamer.settings.secret_files import SUFFIX, value_of, with_folder
from streamer.settings.sections import Settings

ENV_PREFIX = "STREAMER_"
ENV_DELIMITER = "__"

SECRETS = {
    ("kafka", "sasl_password"),
    ("cache", "password"),
    ("index", "milvus_token"),
    ("provider", "api_key"),
    ("provider", "headers"),
    ("provider", "fallback"),
    ("http", "token"),
}
STRUCTURED = {
    ("topics", "input"),
    ("provider", "headers"),
    ("provider", "fallback"),
    ("http", "allowed_hosts"),
    ("http", "workers"),
}


def load_settings(
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
    base: Settings | None = None,
    argument_of: Mapping[str, str] | None = None,
) -> Settings:
    """File, then environment, then `overrides` ("section.key": value, None is skipped). Raises ConfigurationError.

    Without `path`, `streamer.toml` in the working directory is read when it exists. Values of variables may stand in
    files: see `secret_files.py`. With `base`, neither a file nor the environment's settings are read: `overrides`
    change what it says. `argument_of`: for overrides that come from the keyword arguments of a Python call, each
    argument by its "section.key", so that errors quote the call.
    """
    environ = with_folder(environ)
    values: dict[str, dict[str, Any]] = {}
    where: dict[tuple[str, str], str] = {}
    if base is not None:
        values = base.model_dump(exclude_unset=True)
        _forget_what_is_for_another(values.get("provider", {}), overrides or {}, base)
    for section, key, value, origin in [
        *(_from_file(path) if base is None else []),
        *(_from_environment(environ) if base is None else []),
        *_from_overrides(overrides or {}),
    ]:
        values.setdefault(section, {})[key] = value
        where[section, key] = origin
    provider = values.setdefault("provider", {})
    _take_keys(provider, environ, "provider")
    entries = provider.get("fallback")
    for i, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict):
            _take_keys(entry, environ, f"provider.fallback.{i}", first=provider)
    try:
        return Settings.model_validate(values)
    except ValidationError as exc:
        explained = _explain(exc, where, argument_of or {})
        raise ConfigurationError(explained) from None  # the cause would print values of secrets


def _take_keys(
    way: dict[str, Any], environ: Mapping[str, str], where: str, first: dict[str, Any] | None = None
) -> None:
    """Put the key of this way to the provider into it: from the variable that it names, else from the vendor's own one
    where it is meant for this server. `first`: [provider], for an entry of the fallback, which inherits."""
    variable = way.get("api_key_env")
    if isinstance(variable, str) and way.get("api_key") is None:
        key = value_of(environ, variable)
        if key is None:
            raise ConfigurationError(f"{where}.api_key_env = {variable!r}: this variable is not set")
        way["api_key"] = key
    if first is not None and way.get("base_url") is None:
        return
    name = way.get("name") or (first or {}).get("name", "onnx")
    url = way.get("base_url") or (environ.get("OLLAMA_HOST") if name == "ollama" else None)  # its client reads that
    own = key_variable(str(name), url, is_azure=way.get("azure_api_version") is not None)
    if own is not None and "api_key" not in way and (key := value_of(environ, own)) is not None:
        way["api_key"] = key


def _forget_what_is_for_another(provider: dict[str, Any], overrides: Mapping[str, Any], base: Settings) -> None:
    """A key, and the headers of a gateway, are not sent to another vendor or server than they were given for."""
    was = base.provider
    if overrides.get("provider.name") not in (None, was.name):
        for key in ("api_key", "api_key_env", *OPTIONS_OF):
            provider.pop(key, None)
    elif overrides.get("provider.base_url") not in (None, was.base_url):
        for key in ("api_key", "api_key_env", "headers"):
            provider.pop(key, None)


_Item = tuple[str, str, Any, str]


def _from_file(path: Path | None) -> list[_Item]:
    if path is None:
        path = Path("streamer.toml")
        if not path.exists():
            return []
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc}") from exc
    items = []
    for section, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigurationError(f"{path}: {section} = {table!r} is outside of any [section]")
        items += [(section, key, value, str(path)) for key, value in table.items()]
        if not table and section not in Settings.model_fields:
            items.append((section, "", None, str(path)))  # an empty unknown section is still unknown
    return items


def _from_environment(environ: Mapping[str, str]) -> list[_Item]:
    items: list[_Item] = []
    for name, text in environ.items():
        if not name.startswith(ENV_PREFIX):
            continue
        section, delimiter, key = name[len(ENV_PREFIX) :].lower().partition(ENV_DELIMITER)
        if not delimiter:
            meant = next((s for s in Settings.model_fields if section.startswith(f"{s}_")), None)
            if meant:  # a setting silently ignored for want of an underscore would be a bad night
                right = f"{ENV_PREFIX}{meant}{ENV_DELIMITER}{section[len(meant) + 1 :]}".upper()
                raise ConfigurationError(f"{name}: unknown; did you mean {right}?")
            continue
        if name.endswith(SUFFIX) and _names_a_file(section, key):
            named = value_of(environ, name.removesuffix(SUFFIX))
            if named is None:
                continue  # an empty name, as compose passes it for what is not set
            key, text = key.removesuffix(SUFFIX.lower()), named
        items.append((section, key, _typed(section, key, text), name))
    return items


def _names_a_file(section: str, key: str) -> bool:
    """Whether it is a key with a suffix that says so, and no key by itself."""
    field = Settings.model_fields.get(section)
    known = getattr(field.annotation, "model_fields", {}) if field else {}
    return key not in known and key.endswith(SUFFIX.lower()) and key.removesuffix(SUFFIX.lower()) in known


def _typed(section: str, key: str, text: str) -> Any:
    """Values of the environment and of options are text, lists and tables as JSON. The models convert the rest."""
    structured = (section, key) in STRUCTURED and text[:1] in ("[", "{")
    try:
        return orjson.loads(text) if structured else text
    except orjson.JSONDecodeError:
        return text  # refused below for what it is


def _from_overrides(overrides: Mapping[str, Any]) -> list[_Item]:
    items: list[_Item] = []
    for name, value in overrides.items():
        if value is not None:
            section, _, key = name.partition(".")
            typed = _typed(section, key, value) if isinstance(value, str) else value
            items.append((section, key, typed, f"option for {name}"))
    return items


def _explain(exc: ValidationError, where: Mapping[tuple[str, str], str], argument_of: Mapping[str, str]) -> str:
    lines = []
    for error in exc.errors(include_url=False, include_context=False):
        location = tuple(str(part) for part in error["loc"])
        is_entry = location[:2] == ("provider", "fallback") and len(location) > 2
        name = ".".join(location[: 4 if is_entry else 2])
        origin = where.get((location[0], location[1])) if len(location) > 1 else None
        origin = origin or next((o for (s, _), o in where.items() if s == location[0]), "settings")
        if error["type"] == "extra_forbidden":
            model = Settings if len(location) == 1 else Settings.model_fields[location[0]].annotation
            model = FallbackSettings if is_entry else model
            known = ", ".join(getattr(model, "model_fields", {}))
            what = "section" if len(location) == 1 else "key"
            origin = f"{argument_of[name]}=..." if name in argument_of else origin
            lines.append(f"{origin}: unknown {what} {name}; known are: {known}")
        else:
            hides_user = location == ("kafka", "bootstrap_servers") and "@" in str(error["input"])
            secret = hides_user or (
                location[:2] in SECRETS and not (is_entry and location[-1] in ("name", "model", "base_url"))
            )
            given = "" if secret or isinstance(error["input"], dict | Section) else f" = {error['input']!r}"
            message = error["msg"].removeprefix("Value error, ")
            setting = f"{origin}: {name}{given}"
            if name in argument_of:
                setting = f"{argument_of[name]}{given.replace(' ', '', 2) or '=...'}"
            lines.append(f"{setting}: {message[0].lower()}{message[1:]}")
    return without_credentials("\n".join(dict.fromkeys(lines)))
