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

from streamer.core.vendors import VENDORS
from streamer.errors import ConfigurationError
from streamer.settings.base import Section
from streamer.settings.provider import FallbackSettings
from streamer.settings.sections import Settings

ENV_PREFIX = "STREAMER_"
ENV_DELIMITER = "__"

SECRETS = {
    ("kafka", "sasl_password"),
    ("provider", "api_key"),
    ("provider", "headers"),
    ("provider", "fallback"),
    ("http", "token"),
}
STRUCTURED = {("topics", "input"), ("provider", "headers"), ("provider", "fallback")}


def load_settings(
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
    base: Settings | None = None,
    argument_of: Mapping[str, str] | None = None,
) -> Settings:
    """File, then environment, then `overrides` ("section.key": value, None is skipped). Raises ConfigurationError.

    Without `path`, `streamer.toml` in the working directory is read when it exists. With `base`, neither a file nor the
    environment's settings are read: `overrides` change what it says. `argument_of`: for overrides that come from the
    keyword arguments of a Python call, each argument by its "section.key", so that errors quote the call.
    """
    values: dict[str, dict[str, Any]] = {}
    where: dict[tuple[str, str], str] = {}
    if base is not None:
        values = base.model_dump(exclude_unset=True)
        if (overrides or {}).get("provider.name", base.provider.name) != base.provider.name:
            values["provider"].pop("api_key", None)  # it is not this vendor's
    for section, key, value, origin in [
        *(_from_file(path) if base is None else []),
        *(_from_environment(environ) if base is None else []),
        *_from_overrides(overrides or {}),
    ]:
        values.setdefault(section, {})[key] = value
        where[section, key] = origin
    provider = values.setdefault("provider", {})
    vendor = VENDORS.get(str(provider.get("name", "onnx")))
    if vendor is not None and (vendor_key := environ.get(vendor.key_variable)):
        provider.setdefault("api_key", vendor_key)
    _name_keys(provider, environ)
    try:
        return Settings.model_validate(values)
    except ValidationError as exc:
        explained = _explain(exc, where, argument_of or {})
        raise ConfigurationError(explained) from None  # the cause would print values of secrets


def _name_keys(provider: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Put the keys that the fallback's entries name by their variables into them."""
    entries = provider.get("fallback")
    for i, entry in enumerate(entries if isinstance(entries, list) else []):
        variable = entry.get("api_key_env") if isinstance(entry, dict) else None
        if isinstance(variable, str):
            if not environ.get(variable):
                raise ConfigurationError(f"provider.fallback.{i}.api_key_env = {variable!r}: this variable is not set")
            entry["api_key"] = environ[variable]


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
        items.append((section, key, _typed(section, key, text), name))
    return items


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
            secret = location[:2] in SECRETS and not (is_entry and location[-1] in ("name", "model", "base_url"))
            given = "" if secret or isinstance(error["input"], dict | Section) else f" = {error['input']!r}"
            message = error["msg"].removeprefix("Value error, ")
            setting = f"{origin}: {name}{given}"
            if name in argument_of:
                setting = f"{argument_of[name]}{given.replace(' ', '', 2) or '=...'}"
            lines.append(f"{setting}: {message[0].lower()}{message[1:]}")
    return "\n".join(dict.fromkeys(lines))
