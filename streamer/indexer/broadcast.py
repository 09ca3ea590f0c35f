"""Live messages for listeners: each has a bounded queue, and none can hold up the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from anyio import WouldBlock, create_memory_object_stream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream


class Broadcast:
    """Sends every message to every listener. A listener whose queue is full misses the newest messages."""

    def __init__(self, queue_size: int = 256, most_listeners: int = 64) -> None:
        self._queue_size = queue_size
        self._most_listeners = most_listeners
        self._listeners: set[MemoryObjectSendStream[bytes]] = set()
        self._closed = False
        self.missed = 0

    def __len__(self) -> int:
        return len(self._listeners)

    @property
    def full(self) -> bool:
        """Whether no further listener should be let in."""
        return self._closed or len(self._listeners) >= self._most_listeners

    @contextmanager
    def listen(self) -> Iterator[MemoryObjectReceiveStream[bytes]]:
        """Messages from now on, until `close`."""
        send, receive = create_memory_object_stream[bytes](self._queue_size)
        self._listeners.add(send)
        if self._closed:
            send.close()
        try:
            with receive:
                yield receive
        finally:
            self._listeners.discard(send)
            send.close()

    def send(self, message: bytes) -> None:
        for listener in self._listeners:
            try:
                listener.send_nowait(message)
            except WouldBlock:
                self.missed += 1

    def dismiss(self) -> None:
        """End every listener's messages, once it has read those that wait for it. New ones are welcome."""
        listeners, self._listeners = self._listeners, set()
        for listener in listeners:
            listener.close()

    def close(self) -> None:
        """The same, for good."""
        self._closed = True
        self.dismiss()
