"""Values of variables from files, as compose, Kubernetes and systemd hand out secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamer.errors import ConfigurationError
from streamer.settings import Settings, load_settings


def load(**environ: str | Path) -> Settings:
    return load_settings(None, {name: str(value) for name, value in environ.items()})


@pytest.fixture(autouse=True)
def no_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("hunter2\n")
    return path


def test_a_setting_is_read_from_the_file_that_its_variable_names(secret: Path) -> None:
    settings = load(STREAMER_HTTP__TOKEN_FILE=secret, STREAMER_PROVIDER__API_KEY_FILE=secret)
    assert settings.http.token is not None
    assert settings.provider.api_key is not None
    assert settings.http.token.get_secret_value() == settings.provider.api_key.get_secret_value() == "hunter2"
    assert "hunter2" not in str(settings.redacted()) + repr(settings)


def test_tables_and_numbers_stand_in_files_as_well(tmp_path: Path) -> None:
    headers, dimensions = tmp_path / "headers", tmp_path / "dimensions"
    headers.write_text('{"x-gateway": "hunter2"}\n')
    dimensions.write_text("256\r\n")
    settings = load(
        STREAMER_PROVIDER__NAME="openai",
        STREAMER_PROVIDER__HEADERS_FILE=headers,
        STREAMER_PROVIDER__DIMENSIONS_FILE=dimensions,
    )
    assert settings.provider.headers["x-gateway"].get_secret_value() == "hunter2"
    assert settings.provider.dimensions == 256


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "STREAMER_PROVIDER__API_KEY", "EU_KEY"])
def test_keys_of_a_vendor_are_read_from_files(secret: Path, name: str) -> None:
    other = {"STREAMER_PROVIDER__API_KEY_ENV": "EU_KEY"} if name == "EU_KEY" else {}
    key = load(STREAMER_PROVIDER__NAME="openai", **{f"{name}_FILE": secret}, **other).provider.api_key
    assert key is not None
    assert key.get_secret_value() == "hunter2"


def test_settings_come_before_the_vendors_variable(secret: Path, tmp_path: Path) -> None:
    (tmp_path / "vendor").write_text("of the vendor")
    key = load(
        STREAMER_PROVIDER__NAME="openai",
        OPENAI_API_KEY_FILE=tmp_path / "vendor",
        STREAMER_PROVIDER__API_KEY_FILE=secret,
    ).provider.api_key
    assert key is not None
    assert key.get_secret_value() == "hunter2"


def test_a_folder_is_read_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    folder, data = tmp_path / "mounted", tmp_path / "mounted" / "..2026_11_28"
    data.mkdir(parents=True)
    (folder / "..data").symlink_to(data.name)
    for name, value in {
        "OPENAI_API_KEY": "hunter2\n",
        "STREAMER_KAFKA__SASL_PASSWORD": "",  # a placeholder
        "STREAMER_HTTP__TOKEN": "in the folder",
        "ca.crt": "not a variable",
    }.items():
        (data / name).write_text(value)
        (folder / name).symlink_to(f"..data/{name}")
    settings = load(STREAMER_SECRETS_DIR=folder, STREAMER_PROVIDER__NAME="openai", STREAMER_HTTP__TOKEN="said directly")
    assert settings.provider.api_key is not None
    assert settings.provider.api_key.get_secret_value() == "hunter2"
    assert settings.kafka.sasl_password is None
    assert settings.http.token is not None
    assert settings.http.token.get_secret_value() == "said directly"


def test_a_mistyped_name_in_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "STREAMER_HTTP__TOKN").write_text("hunter2")
    with pytest.raises(ConfigurationError, match=r"STREAMER_HTTP__TOKN: unknown key http\.tokn") as refused:
        load(STREAMER_SECRETS_DIR=tmp_path)
    assert "hunter2" not in str(refused.value)


def test_empty_names_are_what_is_not_set() -> None:
    settings = load(STREAMER_HTTP__TOKEN_FILE="", STREAMER_SECRETS_DIR="", OPENAI_API_KEY_FILE="")
    assert settings.http.token is None


def test_a_key_that_is_no_setting_stays_unknown(secret: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown key http\.pin_file; known are"):
        load(STREAMER_HTTP__PIN_FILE=secret)


def test_refusals_name_variable_and_file_and_no_content(tmp_path: Path, secret: Path) -> None:
    binary, empty, absent = tmp_path / "binary", tmp_path / "nothing", tmp_path / "absent"
    binary.write_bytes(b"hunter2\xff")
    empty.write_text("\n")
    for path, says in {
        binary: f"STREAMER_HTTP__TOKEN_FILE: the file '{binary}' cannot be read: it is not UTF-8",
        absent: f"STREAMER_HTTP__TOKEN_FILE: the file '{absent}' cannot be read: No such file or directory",
        empty: f"STREAMER_HTTP__TOKEN_FILE = '{empty}': this file is empty",
    }.items():
        with pytest.raises(ConfigurationError) as refused:
            load(STREAMER_HTTP__TOKEN_FILE=path)
        assert str(refused.value) == says
    with pytest.raises(ConfigurationError, match="TOKEN and STREAMER_HTTP__TOKEN_FILE are both set: remove one"):
        load(STREAMER_HTTP__TOKEN_FILE=secret, STREAMER_HTTP__TOKEN="hunter2")
    with pytest.raises(ConfigurationError, match=f"STREAMER_SECRETS_DIR = '{absent}' cannot be read: No such file"):
        load(STREAMER_SECRETS_DIR=absent)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_of_another_user_is_one_clear_error(secret: Path) -> None:
    secret.chmod(0)
    with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
        load(STREAMER_HTTP__TOKEN_FILE=secret)
