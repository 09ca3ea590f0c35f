"""Field cases F8, F9 and R4: pages of other sites, empty tokens, and what is said of an open or taken port."""

from __future__ import annotations

import errno
import socket

import httpx
import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from streamer.app.http import allowed_hosts, token_of, warn_if_open
from streamer.errors import ConfigurationError
from streamer.http.callers import AllowedHosts, is_json, is_loopback, parse_authority
from streamer.http.health import create_app
from streamer.http.server import serve
from streamer.settings import load_settings
from tests.support.serving import small_index as api

pytestmark = pytest.mark.anyio

QUESTION = b'{"vector": [1, 0]}'


async def ask(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    given = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/v1/search", content=QUESTION, headers=given)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        "evil.example.com:8080",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "127.0.0.1@example.com",
        "notlocalhost",
        "localhost:8080:8080",
        "0x7f000001",
        "",
    ],
)
async def test_f8_a_page_whose_name_was_rebound_to_this_server_is_refused(host: str) -> None:
    async with api() as client:
        for response in (await ask(client, host=host), await client.get("/v1/vectors/id-0", headers={"host": host})):
            assert response.status_code == 403
            assert response.headers["content-type"] == "application/json"
            assert "http.allowed_hosts" in response.json()["error"]
        assert (await client.get("/", headers={"host": host})).status_code == 403
        assert (await client.get("/v1/events", headers={"host": host})).status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:9000",
        "localhost.",
        "a.localhost:1",
        "127.0.0.1:8080",
        "[::1]:8080",
        "10.1.2.3",
        "[fd00::1]",
    ],
)
async def test_f8_loopback_names_and_addresses_are_answered(host: str) -> None:
    async with api() as client:
        assert (await ask(client, host=host)).status_code == 200


async def test_f8_the_host_that_it_is_bound_to_and_the_allowed_ones_are_answered() -> None:
    settings = load_settings(
        environ={"STREAMER_HTTP__HOST": "index.lan", "STREAMER_HTTP__ALLOWED_HOSTS": "search.example.com, .svc.local"}
    )
    async with api(allowed=allowed_hosts(settings)) as client:
        for host in ("index.lan:8080", "search.example.com", "streamer.default.svc.local:80", "Search.Example.Com:443"):
            assert (await ask(client, host=host)).status_code == 200, host
        for host in ("example.com", "svc.local", "evilsvc.local", "a.search.example.com"):
            assert (await ask(client, host=host)).status_code == 403, host
    async with api(allowed=AllowedHosts("0.0.0.0", ["*"])) as client:
        assert (await ask(client, host="any.example.com")).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example.com",
        "https://localhost.evil.example.com",
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "http://localhost",
        "null",
        "",
        "file://",
        "chrome-extension://abcdefgh",
    ],
)
async def test_f8_a_page_of_another_site_is_refused(origin: str) -> None:
    async with api() as client:
        response = await ask(client, host="localhost:8080", origin=origin)
        assert (response.status_code, "http.allowed_hosts" in response.json()["error"]) == (403, True)
        assert (await client.get("/v1/events", headers={"origin": origin, "host": "localhost:8080"})).status_code == 403


async def test_f8_pages_of_this_server_and_of_allowed_hosts_are_answered() -> None:
    async with api(allowed=AllowedHosts("127.0.0.1", ["search.example.com", "localhost:3000"])) as client:
        for host, origin in [
            ("localhost:8080", "http://localhost:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("localhost", "http://localhost"),
            ("search.example.com", "https://search.example.com"),  # a proxy ends TLS and hands on the host
            ("localhost:8080", "https://search.example.com"),  # a proxy that does not
            ("localhost:8080", "http://localhost:3000"),
        ]:
            assert (await ask(client, host=host, origin=origin)).status_code == 200, (host, origin)
        assert (await ask(client, host="localhost:8080", origin="http://localhost:3001")).status_code == 403


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_f8_probes_are_answered_whatever_they_call_this_server(path: str) -> None:
    async with api() as client:
        for host in ("10.0.0.7:8080", "streamer.default.svc", "anything.example.com"):
            assert (await client.get(path, headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
    ],
)
async def test_f8_what_any_page_can_send_is_no_search(content_type: str) -> None:
    async with api() as client:
        response = await ask(client, content_type=content_type)
        assert response.status_code == 415
        assert "application/json" in response.json()["error"]
        assert client.headers.get("content-type") is None
        assert (await client.post("/v1/search", content=QUESTION)).status_code == 415, "none at all"


def test_f8_json_by_any_of_its_names() -> None:
    assert all(map(is_json, ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"]))
    assert not any(map(is_json, ["text/json+json", "application/jsonp", "json", ""]))


async def test_f8_no_answer_lets_pages_of_other_sites_read_it() -> None:
    async with api() as client:
        response = await ask(client)
        assert not [name for name in response.headers if name.startswith("access-control-")]
        assert response.headers["x-content-type-options"] == "nosniff"
        preflight = await client.options("/v1/search", headers={"origin": "http://evil.example.com"})
        assert preflight.status_code == 403


@pytest.mark.parametrize("host", ["a:b:c", "a b", "user@a", "a/b", "[::1", "::1]", "a:123456", "a\\b"])
def test_f8_what_is_no_host_is_not_taken_for_one(host: str) -> None:
    assert parse_authority(host) is None


@pytest.mark.parametrize("hosts", ["http://a.example.com", "a.example.com/x", "*.example.com", "a b", "user@a"])
def test_f8_an_allowed_host_that_is_none_is_a_wrong_setting(hosts: str) -> None:
    with pytest.raises(ConfigurationError, match=r"http\.allowed_hosts = .* is no host; write search\.example\.com"):
        load_settings(environ={"STREAMER_HTTP__ALLOWED_HOSTS": hosts})


@pytest.mark.parametrize("hosts", ["a.example.com,b", '["a.example.com", "b"]'])
def test_f8_allowed_hosts_from_the_environment(hosts: str) -> None:
    assert load_settings(environ={"STREAMER_HTTP__ALLOWED_HOSTS": hosts}).http.allowed_hosts == ["a.example.com", "b"]


@pytest.mark.parametrize("token", ["", " ", "\t", "\n", "\u00a0"])
def test_f9_an_empty_token_is_refused(token: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"STREAMER_HTTP__TOKEN: http\.token: an empty token would let everybody in"
    ):
        load_settings(environ={"STREAMER_HTTP__TOKEN": token})
    with pytest.raises(ValueError, match="an empty token"):
        create_app([], token)


@pytest.mark.parametrize("token", ["secret\n", " secret", "sec\x00ret", "sec\nret"])
def test_f9_a_token_that_no_header_can_carry_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ConfigurationError, match="control characters") as refused:
        load_settings(environ={"STREAMER_HTTP__TOKEN": token})
    assert "sec" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "token", "warned"),
    [
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("192.0.2.1", None, True),
        ("index.lan", None, True),
        ("0.0.0.0", "secret", False),
        ("127.0.0.1", None, False),
        ("127.1.2.3", None, False),
        ("::1", None, False),
        ("localhost", None, False),
    ],
)
def test_f9_an_open_port_is_told(host: str, token: str | None, warned: bool) -> None:
    settings = load_settings(environ={}, overrides={"http.host": host, "http.token": token})
    with capture_logs() as lines:
        warn_if_open(settings, "texts")
    assert [(line["log_level"], line["host"]) for line in lines] == ([("warning", host)] if warned else [])
    assert is_loopback(host) is (not warned and token is None)
    assert token_of(settings) == token


async def test_r4_a_taken_port_of_a_worker_names_the_workers_key() -> None:
    """First hour R11."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"^http.worker_port = {port}: already in use"):
            await serve(Starlette(), "127.0.0.1", port, "http.worker_port")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "localhost"])
async def test_r4_a_taken_port_of_an_indexer_names_its_own_key_and_host(host: str) -> None:
    """First hour R11."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        taken = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip("no IPv6 here")
    with taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as raised:
            await serve(Starlette(), host, port)
    assert str(raised.value) == f"http.port = {port}: already in use on {host}; choose another, or 0"


@pytest.mark.parametrize("setting", ["http.port", "http.worker_port"])
async def test_r4_a_port_that_takes_rights_names_the_key(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(ConfigurationError, match=f"^{setting} = 80: this user may not listen there; try above 1023"):
        await serve(Starlette(), "127.0.0.1", 80, setting)


@pytest.mark.parametrize("host", ["203.0.113.9", "no-such-host.invalid", "a..b", "ö" * 70, "256.1.1.1", "2001:db8::9"])
async def test_r4_a_host_that_is_not_ours_or_none_names_the_host_and_not_the_port(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^http\.host = '.*': (cannot listen there|not the name of a host)"):
        await serve(Starlette(), host, 0, "http.worker_port")
