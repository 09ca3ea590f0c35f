from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.errors import ConfigurationError
from streamer.settings import Settings, load_settings


def load(tmp_path: Path, text: str = "", environ: dict[str, str] | None = None, **overrides: Any) -> Settings:
    path = tmp_path / "streamer.toml"
    path.write_text(text)
    return load_settings(path, environ or {}, {name.replace("__", "."): value for name, value in overrides.items()})


def test_file_then_environment_then_flags(tmp_path: Path) -> None:
    text = '[kafka]\nbootstrap_servers = "file:1"\ngroup_id = "file"\n[batch]\nlinger_ms = 5\n'
    environ = {"STREAMER_KAFKA__GROUP_ID": "environment", "STREAMER_BATCH__LINGER_MS": "7.5"}
    settings = load(tmp_path, text, environ, batch__linger_ms=9, batch__max_events=None)
    assert settings.kafka.bootstrap_servers == "file:1"
    assert settings.kafka.group_id == "environment"
    assert settings.batch.linger_ms == 9
    assert settings.batch.max_events == 512


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ("[kafka]\nbootstrap = 'x'", {}, "unknown key kafka.bootstrap; known are: bootstrap_servers"),
        ("[kafak]\nx = 1", {}, "unknown section kafak; known are: kafka, topics"),
        ("[kafak]", {}, "unknown section kafak"),
        ("port = 1", {}, "outside of any [section]"),
        ("[batch]\nmax_events = 0", {}, "batch.max_events = 0: input should be greater than 0"),
        ("[batch]\nlinger_ms = 'soon'", {}, "batch.linger_ms = 'soon': input should be a valid number"),
        ("[topics]\ninput = 'vectors'", {}, "read its own output topic 'vectors'"),
        ("[topics]\ninput = '^v.*'", {}, "read its own output topic 'vectors'"),
        ("[topics]\ninput = '^('", {}, "not a regular expression"),
        ("[topics]\nverdicts = 'vectors'", {}, "three topics"),
        ("[delivery]\ndrain_timeout_ms = 60000", {}, "less than or equal to 25000"),
        ("not toml", {}, "cannot be read"),
        ("", {"STREAMER_PROVIDER__NAME": "opnai"}, "STREAMER_PROVIDER__NAME: provider.name = 'opnai'"),
        ("", {"STREAMER_KAFKA_GROUP_ID": "x"}, "did you mean STREAMER_KAFKA__GROUP_ID?"),
        ("", {"STREAMER_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"}, "needs sasl_username and sasl_password"),
    ],
)
def test_a_refusal_names_the_key_the_value_and_what_is_right(
    tmp_path: Path, text: str, environ: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, text, environ)
    assert says in str(refused.value)


def test_secrets_never_show(tmp_path: Path) -> None:
    environ = {
        "STREAMER_KAFKA__SASL_PASSWORD": "hunter2",
        "STREAMER_HTTP__TOKEN": "hunter2",
        "OPENAI_API_KEY": "hunter2",
        "STREAMER_PROVIDER__NAME": "openai",
    }
    settings = load(tmp_path, "", environ)
    assert settings.provider.api_key is not None
    assert settings.provider.api_key.get_secret_value() == "hunter2"
    assert "hunter2" not in str(settings.redacted()) + repr(settings)
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, "[kafka]\nsasl_password = ['hunter2']\n[provider]\napi_key = 7654321\ndimensions = 0")
    assert "hunter2" not in str(refused.value)
    assert "7654321" not in str(refused.value)


def test_the_vendors_own_variable_does_not_override(tmp_path: Path) -> None:
    environ = {"COHERE_API_KEY": "vendor", "STREAMER_PROVIDER__API_KEY": "ours", "STREAMER_PROVIDER__NAME": "cohere"}
    key = load(tmp_path, "", environ).provider.api_key
    assert key is not None
    assert key.get_secret_value() == "ours"


def test_input_topics_are_one_a_list_or_a_pattern(tmp_path: Path) -> None:
    assert load(tmp_path, "[topics]\ninput = ['a', 'b']").topics.inputs == ["a", "b"]
    topics = load(tmp_path, "", {"STREAMER_TOPICS__INPUT": '["a", "b"]'}).topics
    assert (topics.inputs, topics.pattern) == (["a", "b"], None)
    topics = load(tmp_path, "[topics]\ninput = '^text-'").topics
    assert topics.inputs == []
    assert topics.pattern is not None


def test_without_a_file_the_working_directory_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}).kafka.group_id == "streamer"
    (tmp_path / "streamer.toml").write_text("[kafka]\ngroup_id = 'mine'")
    assert load_settings(None, {}).kafka.group_id == "mine"
    with pytest.raises(ConfigurationError, match=r"absent\.toml cannot be read"):
        load_settings(Path("absent.toml"), {})


def test_ways_to_fall_back_on(tmp_path: Path) -> None:
    text = """[provider]
name = "openai"
[[provider.fallback]]
base_url = "https://eu.example/v1"
api_key_env = "EU_KEY"
headers = { "x-gateway" = "hunter2" }
[[provider.fallback]]
azure_deployment = "other"
"""
    first, second = load(tmp_path, text, {"EU_KEY": "hunter2"}).provider.fallback
    assert first.api_key is not None
    assert first.api_key.get_secret_value() == first.headers["x-gateway"].get_secret_value() == "hunter2"
    assert (first.base_url, second.azure_deployment) == ("https://eu.example/v1", "other")
    assert "hunter2" not in str(load(tmp_path, text, {"EU_KEY": "hunter2"}).redacted())
    environ = {"STREAMER_PROVIDER__NAME": "openai", "STREAMER_PROVIDER__FALLBACK": '[{"api_key": "hunter2"}]'}
    [only] = load(tmp_path, "", environ).provider.fallback
    assert only.api_key is not None


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (
            'base_ur = "x"\napi_key = "hunter2"',
            "unknown key provider.fallback.0.base_ur; known are: name, model, base_url",
        ),
        ('api_key_env = "EU_KEY"', "provider.fallback.0.api_key_env = 'EU_KEY': this variable is not set"),
        ('model = "x"', "an entry needs a base_url, an api_key_env or an azure_deployment of its own"),
        ("api_key = ['hunter2']", "provider.fallback.0.api_key: input should be a valid string"),
        ("base_url = 5\napi_key = 'hunter2'", "provider.fallback.0.base_url = 5: input should be a valid string"),
        ("headers = { a = ['hunter2'] }", "provider.fallback.0.headers: input should be a valid string"),
    ],
)
def test_a_wrong_way_is_named_without_its_secrets(tmp_path: Path, entry: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, f'[provider]\nname = "openai"\n[[provider.fallback]]\n{entry}')
    assert says in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_more_that_is_refused_about_ways_and_headers(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="onnx runs in this process: there is no other way to it"):
        load(tmp_path, '[[provider.fallback]]\nbase_url = "https://eu.example"')
    for name, value in (("FALLBACK", '[{"api_key": "hunter2"'), ("HEADERS", '{"a": "hunter2"')):
        with pytest.raises(
            ConfigurationError, match=f"PROVIDER__{name}: provider.{name.lower()}: input should be a"
        ) as refused:
            load(tmp_path, "", {"STREAMER_PROVIDER__NAME": "openai", f"STREAMER_PROVIDER__{name}": value})
        assert "hunter2" not in str(refused.value)


def test_settings_can_be_changed(tmp_path: Path) -> None:
    base = load(tmp_path, "[batch]\nmax_events = 5\n", {"OPENAI_API_KEY": "a", "STREAMER_PROVIDER__NAME": "openai"})
    changed = load_settings(None, {"COHERE_API_KEY": "c"}, {"provider.name": "cohere", "batch.max_bytes": 9}, base)
    assert (changed.batch.max_events, changed.batch.max_bytes) == (5, 9)
    assert changed.provider.api_key is not None
    assert changed.provider.api_key.get_secret_value() == "c"
    same = load_settings(None, {}, {"provider.model": "m"}, base)
    assert same.provider.api_key == base.provider.api_key


def test_an_empty_snapshot_path_is_none() -> None:
    assert load_settings(environ={}).index.snapshot_path == Path("streamer-index.snapshot")
    assert load_settings(environ={"STREAMER_INDEX__SNAPSHOT_PATH": ""}).index.snapshot_path is None
    assert load_settings(environ={}, overrides={"index.snapshot_path": ""}).index.snapshot_path is None


def test_the_log_is_set_like_everything_else(tmp_path: Path) -> None:
    assert load(tmp_path, "", {}).log.model_dump() == {"format": "auto", "level": "info", "include_texts": False}
    assert load(tmp_path, '[log]\nformat = "json"\n', {"STREAMER_LOG__LEVEL": "debug"}).log.level == "debug"
    with pytest.raises(ConfigurationError, match=r"STREAMER_LOG__LEVEL: log\.level = 'loud'"):
        load(tmp_path, "", {"STREAMER_LOG__LEVEL": "loud"})


def test_all_secrets_are_known_to_those_who_must_not_print_them(tmp_path: Path) -> None:
    environ = {
        "STREAMER_KAFKA__SASL_PASSWORD": "secret-1",
        "STREAMER_HTTP__TOKEN": "secret-2",
        "STREAMER_PROVIDER__NAME": "openai",
        "STREAMER_PROVIDER__API_KEY": "secret-3",
        "STREAMER_PROVIDER__HEADERS": '{"x-key": "secret-4"}',
        "STREAMER_PROVIDER__FALLBACK": '[{"api_key": "secret-5", "headers": {"x-key": "secret-6"}}]',
    }
    assert load(tmp_path, "", environ).secrets() == [f"secret-{n}" for n in range(1, 7)]
