"""What is asked of a worker, and what is made of odd answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from socket import AF_INET, AF_INET6

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from streamer.adapters import worker_pages
from streamer.adapters.worker_pages import WorkerPages
from streamer.http.health import create_health_app
from streamer.http.role_state import RoleState
from tests.support.serving import serving

pytestmark = pytest.mark.anyio

Answer = Callable[[Request], Awaitable[Response]]


class Worker:
    def state(self) -> RoleState:
        return RoleState(not_ready=None)

    def statistics(self) -> object:
        raise AssertionError


async def test_a_worker_is_asked_with_its_token() -> None:
    app = create_health_app("worker", Worker(), "secret", facts=lambda: {"partitions": 4})
    async with serving(app) as client:
        url = str(client.base_url)
        known, stranger = WorkerPages(url, "secret"), WorkerPages(url)
        said = (await known.overviews())[url]
        assert not isinstance(said, str)
        assert (said["partitions"], said["history"]["at"]) == (4, [])
        assert await stranger.overviews() == {url: "wants another token"}
        await known.aclose()
        await stranger.aclose()
    gone = WorkerPages(url)
    assert await gone.overviews() == {url: "does not answer"}
    await gone.aclose()


async def _page(_: Request) -> Response:
    return PlainTextResponse("<html>")


async def _elsewhere(_: Request) -> Response:
    return RedirectResponse("http://127.0.0.1:1/")


async def _refusal(_: Request) -> Response:
    return JSONResponse({"error": "this server is not known as 'worker'"}, 403)


async def _indexer(_: Request) -> Response:
    return JSONResponse({"role": "indexer"})


async def _much(_: Request) -> Response:
    return PlainTextResponse("x" * (2 << 20))


async def _never(_: Request) -> Response:
    await anyio.sleep_forever()
    raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_page, "answers no JSON"),
        (_elsewhere, "answers with HTTP status 307"),
        (_refusal, "is not known by this name: add it to http.allowed_hosts of the worker"),
        (_indexer, "is no worker"),
        (_much, "answers more than a worker has to say"),
        (_never, "does not answer within 0.2 s"),
    ],
)
async def test_whatever_else_listens_there_is_named(
    answer: Answer, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pages, "SECONDS", 0.2 if answer is _never else 30.0)
    async with serving(Starlette(routes=[Route("/v1/overview", answer)])) as client:
        page = WorkerPages(str(client.base_url))
        assert list((await page.overviews()).values()) == [words]
        await page.aclose()


async def test_a_name_stands_for_all_workers_that_it_has_addresses_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert (host, port) == ("worker", 81)
        four = [(AF_INET, 0, 0, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1", "127.0.0.1")]
        return [*four, (AF_INET6, 0, 0, "", ("::1", port, 0, 0))]

    monkeypatch.setattr(worker_pages, "getaddrinfo", found)
    pages = WorkerPages("http://worker:81")
    said = await pages.overviews()
    assert list(said) == ["http://127.0.0.1:81", "http://127.0.0.2:81"], "of two families, one"
    await pages.aclose()


async def test_pods_that_come_and_go_are_asked_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses of a headless Service in Kubernetes are those of its pods at this moment."""
    app, addresses = create_health_app("worker", Worker(), facts=lambda: {"partitions": 4}), list[str]()

    async def pods(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert host == "streamer-worker"
        return [(AF_INET, 0, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr(worker_pages, "getaddrinfo", pods)
    async with serving(app) as client:
        port = client.base_url.port
        pages = WorkerPages(f"http://streamer-worker:{port}")
        here, gone = f"http://127.0.0.1:{port}", f"http://127.0.0.2:{port}"
        assert await pages.overviews() == {f"http://streamer-worker:{port}": "has a name without an address"}
        for now in ([here], [here, gone], [gone], [here]):
            addresses[:] = [url.removeprefix("http://").partition(":")[0] for url in now]
            said = await pages.overviews()
            assert list(said) == now
            assert [address for address, answer in said.items() if not isinstance(answer, str)] == [
                address for address in now if address == here
            ]
        await pages.aclose()


async def test_behind_the_port_of_several_workers_each_is_told() -> None:
    async def several(_: Request) -> Response:
        worker = {"role": "worker", "partitions": 2}
        return JSONResponse({"processes": [worker, {"error": "worker 2: starting"}, {"role": "indexer"}, 4]})

    async with serving(Starlette(routes=[Route("/v1/overview", several)])) as client:
        pages = WorkerPages(url := str(client.base_url))
        assert await pages.overviews() == {
            f"{url} (1)": {"role": "worker", "partitions": 2},
            f"{url} (2)": "tells nothing: worker 2: starting",
            f"{url} (3)": "is no worker",
            f"{url} (4)": "is no worker",
        }
        await pages.aclose()


async def test_a_name_that_nobody_knows_is_no_error() -> None:
    pages = WorkerPages("http://worker.invalid:8081")
    assert await pages.overviews() == {"http://worker.invalid:8081": "has a name without an address"}
    await pages.aclose()
