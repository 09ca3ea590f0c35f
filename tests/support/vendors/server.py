"""A small HTTP server on loopback that all fake services are built on.

It is written against sockets and not with a framework because half of its work is what frameworks prevent: bodies that
stop half-way or drip, connections that close without an answer, headers that lie.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, repeat
from math import isinf
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from tests.support.vendors.limits import Limits, SlidingWindow
from tests.support.vendors.misbehaviour import NOTHING, Fault


@dataclass(frozen=True, slots=True)
class Request:
    """As it arrived; header names in lower case. `connection` numbers the connection it came over, from 1."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    arrived: float
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class Refused(Exception):
    """Raised inside a fake to refuse a request in its vendor's shape."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class FakeVendor:
    """A service; use it as an async context manager. Subclasses say what a right request is and how answers look.

    `requests` records all that came, refused ones too; `billed_tokens` counts what accepted ones cost, `endless_bytes`
    what was sent of bodies without an end. `misbehave` plans a fault for each of the next requests; `always`, if set,
    gives the fault for every request that none was planned for. `latency` delays each answer by seconds, as a function
    of the request's number, from 0. `poison`: texts that the service refuses with 400. `edit` rewrites each right
    answer: it gets the answer and the request, both as JSON, and gives the answer that goes out.
    """

    def __init__(
        self, *, key: str | None = None, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.key = key
        self.requests: list[Request] = []
        self.always: Fault | Callable[[Request], Fault] = NOTHING
        self.latency: Callable[[int], float] = lambda number: 0.0
        self.poison: set[str] = set()
        self.edit: Callable[[Any, Any], Any] | None = None
        self.statuses: list[int] = []
        self.connections = 0
        self.billed_tokens = 0
        self.endless_bytes = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self._clock = clock
        self._planned: deque[Fault] = deque()
        self._limits = limits or Limits()
        window = self._limits.window_seconds
        self._requests_window = SlidingWindow(self._limits.requests, window)
        self._tokens_window = SlidingWindow(self._limits.tokens, window)
        self._items_window = SlidingWindow(self._limits.items, window)
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrival = asyncio.Event()
        self._bug: Exception | None = None

    def misbehave(self, *faults: Fault) -> None:
        self._planned.extend(faults)

    async def received(self, count: int) -> None:
        """Waits until this many requests have come in all."""
        while len(self.requests) < count:
            await self._arrival.wait()

    @property
    def origin(self) -> str:
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    # What a vendor's fake adds ---------------------------------------------------------------------------------------

    def answer(self, request: Request, fault: Fault) -> Reply:
        """The answer to a request, or Refused."""
        raise NotImplementedError

    def refusal(self, refused: Refused) -> Reply:
        """A refusal in the vendor's shape."""
        raise NotImplementedError

    def planned_refusal(self, fault: Fault) -> Refused:
        """What the vendor says with this status. A test may ask for any."""
        return Refused(
            fault.status, f"{self.key} is what you sent" if fault.code == "echo" else "as planned", fault.code
        )

    # What all of them share ------------------------------------------------------------------------------------------

    def expect(self, request: Request, method: str, path: str) -> None:
        if (request.method, request.path) != (method, path):
            raise Refused(404, f"no route {request.method} {request.path}")
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            raise Refused(415, f"content type {request.headers.get('content-type')}")

    def expect_bearer(self, request: Request, message: str, code: str = "") -> None:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            raise Refused(401, message, code)

    def expect_fields(self, body: Any, known: Iterable[str], required: Iterable[str]) -> None:
        if not isinstance(body, dict):
            raise Refused(400, "the body is not an object")
        if unknown := set(body) - set(known):
            raise Refused(400, f"unknown fields: {sorted(unknown)}")
        if missing := set(required) - set(body):
            raise Refused(400, f"missing fields: {sorted(missing)}")

    def expect_texts(self, texts: Any, most: int) -> list[str]:
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise Refused(400, "texts must be a list of strings, at least one")
        if len(texts) > most:
            raise Refused(400, f"at most {most} texts a request, not {len(texts)}")
        if self.poison.intersection(texts):
            raise Refused(400, "one of the texts is not acceptable")
        return texts

    def meter(self, items: int, tokens: int) -> dict[str, tuple[float, float, float]]:
        """Counts an otherwise acceptable request against the limits; refuses it with 429 when one would be exceeded.

        Returns (limit, left, seconds until the window is empty) by name, for the headers.
        """
        now = self._clock()
        windows = {
            "requests": (self._requests_window, 1),
            "tokens": (self._tokens_window, tokens),
            "items": (self._items_window, items),
        }
        waits = {name: window.wait(now, amount) for name, (window, amount) in windows.items()}
        worst = max(waits, key=waits.__getitem__)
        if waits[worst] > 0:
            raise self.rate_refusal(worst, self._limits.window_seconds if isinf(waits[worst]) else waits[worst])
        for window, amount in windows.values():
            window.admit(now, amount)
        self.billed_tokens += tokens
        return {
            name: (window.limit, window.limit - window.used(now), window.seconds)
            for name, (window, _) in windows.items()
            if not isinf(window.limit)
        }

    def rate_refusal(self, what: str, wait: float) -> Refused:
        return Refused(429, f"rate limit on {what}", retry_after=f"{wait:.3f}")

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self._bug is not None:
            raise AssertionError("the fake service has a bug") from self._bug

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await self._read(reader, connection)) is not None:
                if not await self._respond(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client went away, which is its right
        except asyncio.CancelledError:
            # Left alone, the stream protocol of asyncio would report the cancelled task as an unhandled error.
            return
        except Exception as exc:  # noqa: BLE001  a bug in the fake; raised when the fake is closed
            self._bug = exc
        finally:
            self._tasks.discard(task)
            with suppress(ConnectionError):
                writer.close()

    async def _read(self, reader: asyncio.StreamReader, connection: int) -> Request | None:
        try:
            start_of_head = await reader.readexactly(1)
            if not start_of_head.isalpha():  # somebody greets us in TLS
                return None
            head = start_of_head + await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        start, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = start.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        url = urlsplit(target)
        request = Request(method, url.path, dict(parse_qsl(url.query)), headers, body, self._clock(), connection)
        self.requests.append(request)
        self._arrival.set()
        self._arrival = asyncio.Event()
        return request

    async def _respond(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answers; False when the connection is to be closed."""
        number = len(self.requests) - 1
        if self._planned:
            fault = self._planned.popleft()
        else:
            fault = self.always if isinstance(self.always, Fault) else self.always(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if fault.hang:
                await asyncio.Event().wait()
            if (delay := fault.delay + self.latency(number)) > 0:
                await asyncio.sleep(delay)
            if fault.reset:
                return False
            reply = self._reply(request, fault)
            self.statuses.append(reply.status)
            return await self._write(reply, fault, writer)
        finally:
            self.in_flight -= 1

    def _reply(self, request: Request, fault: Fault) -> Reply:
        if fault.body is not None:
            return Reply(fault.status, fault.body, fault.headers, fault.content_type)
        try:
            if fault.status != 200:
                raise self.planned_refusal(fault)
            reply = self.answer(request, fault)
            if self.edit is not None:
                edited = json.dumps(self.edit(json.loads(reply.body), request.json)).encode()
                reply = Reply(reply.status, edited, reply.headers, reply.content_type)
        except Refused as refused:
            reply = self.refusal(refused)
            reply = Reply(reply.status, reply.body, {**reply.headers, **refused.headers}, reply.content_type)
        return Reply(reply.status, reply.body, {**reply.headers, **fault.headers}, reply.content_type)

    async def _write(self, reply: Reply, fault: Fault, writer: asyncio.StreamWriter) -> bool:
        length = {"transfer-encoding": "chunked"} if fault.endless else {"content-length": str(len(reply.body))}
        headers = {"content-type": reply.content_type, **length, **reply.headers}
        lines = [f"HTTP/1.1 {reply.status} -", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        if fault.endless:
            for piece in chain([reply.body], repeat(fault.endless)):
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b"")
                await writer.drain()
                self.endless_bytes += len(piece)
        if fault.cut is not None:
            writer.write(reply.body[: fault.cut])
            await writer.drain()
            return False
        if fault.seconds_per_byte:
            for byte in reply.body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(fault.seconds_per_byte)
        else:
            writer.write(reply.body)
        await writer.drain()
        return True
