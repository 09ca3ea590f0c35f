"""What is kept of events that nothing has been learned from."""

from __future__ import annotations

import orjson

from streamer.core.sketch import form_of, unpack_form
from streamer.indexer.verdicts.unseen import Unseen


def test_packed_forms_and_others_come_out_alike() -> None:
    packed, form = form_of("3 reports"), unpack_form(form_of("3 reports"))
    one, other = Unseen(), Unseen()
    one.extend([("a", packed), ("b", b""), ("c", b"no form")])
    other.extend([("a", form), ("b", None), ("c", None)])
    assert one.state() == other.state()
    assert one.take() == other.take() == [("a", form), ("b", None), ("c", None)]
    assert one.take() == []


def test_another_goes_on_from_its_state() -> None:
    one, other = Unseen(), Unseen()
    one.extend([("a", form_of("3 reports")), ("b", b"")])
    other.resume(orjson.loads(orjson.dumps(one.state())))
    assert other.take() == one.take()


def test_the_latest_are_kept() -> None:
    unseen = Unseen()
    unseen.extend((str(number), None) for number in range(5000))
    kept = [id for id, _ in unseen.take()]
    assert kept == [str(number) for number in range(5000 - len(kept), 5000)]
    assert 1000 < len(kept) < 5000
