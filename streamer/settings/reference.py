"""All settings explained, from their own descriptions: an example `streamer.toml`, and the tables of the manual."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from streamer.settings.base import Section
from streamer.settings.loading import ENV_DELIMITER, ENV_PREFIX, SECRETS
from streamer.settings.provider import FallbackSettings
from streamer.settings.sections import Settings

WIDTH = 100
UNITS = {"_ms": "milliseconds", "_seconds": "seconds", "_bytes": "bytes"}
ENTRIES = ("provider", "fallback")  # an array of tables

Schema = Mapping[str, Any]


def sections() -> dict[str, type[Section]]:
    """The tables of `streamer.toml` in their order."""
    found = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, Section)}


def example_toml() -> str:
    """A `streamer.toml` that changes nothing: every key as a comment, with its default or else an example."""
    lines = [
        "# All settings of streamer. What is commented out shows the default, or an example where there is none.",
        "",
    ]
    for name, section in sections().items():
        lines += [f"# {section.__doc__}", f"[{name}]"]
        for key, schema in _keys(section):
            if (name, key) != ENTRIES:
                lines += ["", *_commented(_sentence(schema)), f"# {_assignment(name, key, schema)}"]
        if name == ENTRIES[0]:
            lines += ["", *_commented(_sentence(dict(_keys(section))[ENTRIES[1]]))]
            lines += [
                "# [[provider.fallback]]",
                '# base_url = "https://eu.example.com/v1"',
                '# api_key_env = "EU_API_KEY"',
            ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def reference_markdown() -> str:
    """One table a section: key and environment variable, type with unit, default, meaning."""
    parts = []
    for name, section in sections().items():
        rows = [_row(f"{name}.{key}", f"{name}{ENV_DELIMITER}{key}", schema) for key, schema in _keys(section)]
        parts.append(_table(f"## [{name}]", section, rows))
        if name == ENTRIES[0]:
            rows = [_row(key, None, schema) for key, schema in _keys(FallbackSettings)]
            parts.append(_table("### [[provider.fallback]]", FallbackSettings, rows))
    return "\n\n".join(parts) + "\n"


def _table(heading: str, section: type[Section], rows: list[str]) -> str:
    explained = " ".join((section.__doc__ or "").split())
    return "\n".join([heading, "", explained, "", "| key | type | default | meaning |", "|---|---|---|---|", *rows])


def _row(key: str, variable: str | None, schema: Schema) -> str:
    shown = f"`{key}`" + (f"<br>`{ENV_PREFIX}{variable.upper()}`" if variable else "")
    default = schema.get("default")
    given = "" if default in (None, {}, []) else f"`{_toml(default)}`"
    unit = next((unit for end, unit in UNITS.items() if key.endswith(end)), "")
    kind = ", ".join(filter(None, [_type(schema), unit]))
    return f"| {shown} | {kind} | {given} | {schema['description']} |"


def _keys(section: type[Section]) -> Iterator[tuple[str, Schema]]:
    yield from section.model_json_schema()["properties"].items()


def _sentence(schema: Schema) -> str:
    text = str(schema["description"])
    choices = ", ".join(_choices(schema))
    return f"{text} ({choices})" if choices else text


def _commented(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def _assignment(section: str, key: str, schema: Schema) -> str:
    if (section, key) in SECRETS and _type(schema) == "secret":
        return f"{key}: set {ENV_PREFIX}{section.upper()}{ENV_DELIMITER}{key.upper()} in the environment"
    default = schema.get("default")
    return f"{key} = {_toml(schema['examples'][0] if default in (None, {}) else default)}"


def _toml(value: Any) -> str:
    """JSON's strings, numbers, booleans and arrays are TOML's as well; only a table is written in another way."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{value:_}" if type(value) is int and abs(value) >= 10_000 else orjson.dumps(value).decode()


def _choices(schema: Schema) -> list[str]:
    if "anyOf" in schema:
        return [choice for inner in schema["anyOf"] for choice in _choices(inner)]
    return [f'"{choice}"' for choice in schema.get("enum", [])]


def _type(schema: Schema) -> str:
    """In words: `integer > 0`, `"json", "binary"`, `string or list of strings`."""
    if "anyOf" in schema:
        return " or ".join(_type(inner) for inner in schema["anyOf"] if inner.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in _choices(schema))
    if "const" in schema:
        return f'`"{schema["const"]}"`'
    if schema.get("format") == "password":
        return "secret"
    if schema.get("format") == "path":
        return "path"
    if schema["type"] == "array":
        return "list of tables" if "$ref" in schema["items"] else f"list of {_type(schema['items'])}s"
    if schema["type"] == "object":
        return "table of secrets"
    low, high = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    bounds = [f"> {above}"] if above is not None else []
    bounds += [f"≥ {_toml(low)}"] if low is not None else []
    bounds += [f"≤ {_toml(high)}"] if high is not None else []
    return " ".join([schema["type"], " and ".join(bounds)]).strip()
