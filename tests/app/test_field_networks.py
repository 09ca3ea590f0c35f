"""Field case 37: servers behind an own certificate authority, and behind a proxy that asks for a password."""

from __future__ import annotations

import asyncio
import base64
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from streamer.errors import RetriableError
from tests.support.vendors.services import KEY, TEXTS, Service, assert_same, every_adapter, failure

pytestmark = pytest.mark.anyio

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of an authority of our own, which is the server's as well; and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("authority")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", folder / "key.pem",
         "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem", folder / "key.pem"


def base_url_of(server: Any) -> str:
    return str(server.base_url)


@asynccontextmanager
async def behind_tls(base_url: str, certificate: tuple[Path, Path]) -> AsyncIterator[str]:
    """The server's address behind a front that speaks TLS."""
    parts = urlsplit(base_url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(parts.hostname, parts.port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(carry(reader, inner_writer))
            tasks.create_task(carry(inner_reader, writer))

    front = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    async with front:
        yield f"https://localhost:{front.sockets[0].getsockname()[1]}{parts.path}"


@every_adapter
async def test_row_37_an_own_authority_is_the_one_of_ssl_cert_file(
    service: Service, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with service.fake(key=KEY) as server, behind_tls(base_url_of(server), certificate) as address:
        provider = service.make(server, base_url=address)
        try:
            answer = await provider.embed(TEXTS, "document")
            assert_same(answer.vectors, service.expected(TEXTS, "document"))
        finally:
            await provider.aclose()


@every_adapter
@pytest.mark.parametrize("variable", [None, "REQUESTS_CA_BUNDLE"])
async def test_row_37_an_unknown_authority_is_told_and_waited_for(
    service: Service, variable: str | None, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv(variable, str(certificate[0]))  # which requests reads, and none of these clients
    async with service.fake(key=KEY) as server, behind_tls(base_url_of(server), certificate) as address:
        provider = service.make(server, base_url=address)
        try:
            error = await failure(provider)
        finally:
            await provider.aclose()
    assert isinstance(error, RetriableError)
    assert "certificate verify failed" in str(error)


@every_adapter
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_row_37_a_proxy_gets_the_requests_and_its_password(
    service: Service, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service.fake(key=KEY) as server:
        parts = urlsplit(base_url_of(server))
        monkeypatch.setenv(variable, f"http://user:secret@{parts.hostname}:{parts.port}")
        provider = service.make(server, base_url=f"http://embeddings.example{parts.path}")
        try:
            answer = await provider.embed(TEXTS, "document")
            assert_same(answer.vectors, service.expected(TEXTS, "document"))
        finally:
            await provider.aclose()
        (request,) = server.requests
        assert request.headers["host"] == "embeddings.example"
        assert request.headers["proxy-authorization"] == f"Basic {base64.b64encode(b'user:secret').decode()}"
