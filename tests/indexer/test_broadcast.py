"""Live messages: everyone gets them, and nobody waits for the slow."""

from __future__ import annotations

import anyio
import pytest

from streamer.indexer.broadcast import Broadcast

pytestmark = pytest.mark.anyio


async def test_every_listener_gets_what_is_sent_while_it_listens() -> None:
    live = Broadcast()
    live.send(b"nobody")
    with live.listen() as first, live.listen() as second:
        live.send(b"1")
        live.send(b"2")
        assert [first.receive_nowait(), first.receive_nowait(), second.receive_nowait()] == [b"1", b"2", b"1"]
        assert len(live) == 2
    assert len(live) == 0
    live.send(b"nobody")
    assert live.missed == 0


async def test_a_slow_listener_misses_messages_and_holds_up_none() -> None:
    live = Broadcast(queue_size=2)
    with live.listen() as slow, live.listen() as quick:
        got = []
        for i in range(5):
            live.send(b"%d" % i)
            got.append(quick.receive_nowait())
        assert got == [b"0", b"1", b"2", b"3", b"4"]
        assert live.missed == 3
        assert [slow.receive_nowait(), slow.receive_nowait()] == [b"0", b"1"]


async def test_those_who_are_dismissed_read_to_the_end_and_may_come_again() -> None:
    live = Broadcast()
    with live.listen() as listener:
        live.send(b"1")
        live.dismiss()
        live.send(b"2")
        assert await listener.receive() == b"1"
        with pytest.raises(anyio.EndOfStream):
            await listener.receive()
        assert not live.full
    with live.listen() as listener:
        live.send(b"3")
        assert await listener.receive() == b"3"


async def test_closing_ends_all_and_lets_no_one_in() -> None:
    live = Broadcast(most_listeners=1)
    with live.listen() as listener:
        assert live.full
        live.send(b"last")
        live.close()
        assert [message async for message in listener] == [b"last"]
    assert live.full
    with live.listen() as late, pytest.raises(anyio.EndOfStream):
        await late.receive()
