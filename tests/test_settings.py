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
        load(tmp_path, "[kafka]\nsasl_password = ['hunter2']\n[provider]\napi_key = 86753\ndimensions = 0")
    assert "hunter2" not in str(refused.value)
    assert "86753" not in str(refused.value)


def test_the_vendors_own_variable_does_not_override(tmp_path: Path) -> None:
    environ = {"COHERE_API_KEY": "vendor", "STREAMER_PROVIDER__API_KEY": "ours", "STREAMER_PROVIDER__NAME": "cohere"}
    key = load(tmp_path, "", environ).provider.api_key
    assert key is not None
    assert key.get_secret_value() == "ours"


def test_input_topics(tmp_path: Path) -> None:
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
