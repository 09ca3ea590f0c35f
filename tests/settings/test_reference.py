"""The settings explain themselves: every key, in a file that can be used as it is printed."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from streamer.settings import SECRETS, Settings, load_settings
from streamer.settings.provider import FallbackSettings
from streamer.settings.reference import example_toml, reference_markdown, sections

KEYS = [(name, key) for name, section in sections().items() for key in section.model_fields]


@cache
def shown() -> dict[str, dict[str, Any]]:
    """The example with every assignment in force."""
    return tomllib.loads(re.sub(r"^# (?=\w+ = |\[\[)", "", example_toml(), flags=re.MULTILINE))


def test_every_key_is_described() -> None:
    page, known = reference_markdown(), sections()
    for section, key in KEYS:
        assert known[section].model_fields[key].description, (section, key)
        assert f"`{section}.{key}`<br>`STREAMER_{section.upper()}__{key.upper()}`" in page


def test_entries_of_the_fallback_are_described() -> None:
    for key, field in FallbackSettings.model_fields.items():
        assert f"| `{key}` |" in reference_markdown()
        assert field.description


def test_the_example_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "streamer.toml"
    path.write_text(example_toml())
    assert load_settings(path, {}) == Settings()


def test_the_example_shows_every_key_but_secrets() -> None:
    missing = {(section, key) for section, key in KEYS if key not in shown()[section]}
    assert missing == {(s, k) for s, k in SECRETS if (s, k) not in {("provider", "headers"), ("provider", "fallback")}}
    for section, key in missing:
        assert f"STREAMER_{section}__{key}".upper() in example_toml()


def examples() -> list[tuple[str, str]]:
    """Keys that the example shows with another value than the default."""
    defaults = Settings()
    found = []
    for section, key in KEYS:
        value, default = shown()[section].get(key), getattr(getattr(defaults, section), key)
        if value not in (None, str(default) if isinstance(default, Path) else default):
            assert default in (None, {}, []), f"{section}.{key} has a default, so the example shows it"
            found.append((section, key))
    return found


@pytest.mark.parametrize(("section", "key"), examples())
def test_what_the_example_shows_is_the_default_or_would_be_accepted(section: str, key: str) -> None:
    value = shown()[section][key]
    needs = {"provider": {"name": {"keep_alive": "ollama", "precision": "onnx"}.get(key, "openai")}}.get(section, {})
    environ = {"EU_API_KEY": "secret", "OPENAI_API_KEY": "secret"}
    wanted = load_settings(None, environ, {f"{section}.{name}": v for name, v in {**needs, key: value}.items()})
    assert getattr(getattr(wanted, section), key) not in (None, {}, [])
