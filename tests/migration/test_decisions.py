"""Decisions as records: what is written is read, and nothing else is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.migration.decisions import Decision, Side, decode_decision, encode_decision
from tests.migration.sides import decision

words = st.text(min_size=1, max_size=8)
mappings = st.dictionaries(words, words, max_size=3)
sides = st.builds(
    Side, provider=words, model=words, space=words, group=words, vectors=words, verdicts=words, dead_letters=words,
    settings=mappings, unset=st.lists(words, max_size=3).map(tuple), work=mappings,
)  # fmt: skip
times = st.floats(0, 1e12, allow_nan=False)
follows = st.none() | words
starts = st.builds(
    Decision, change=st.just("start"), group=words, token=words, follows=follows, at=times, old=sides, new=sides
)
moves = st.builds(
    Decision, change=st.sampled_from(["switch", "back", "finish"]), group=words, token=words, follows=follows, at=times
)


@given(starts | moves)
def test_what_is_written_is_read(written: Decision) -> None:
    assert decode_decision(encode_decision(written)) == written


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"\xff", b"{}", b'{"format": 2}'])
def test_what_is_none_is_refused(value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_decision(value)


@pytest.mark.parametrize(
    "broken",
    [
        {"change": "stop"}, {"group": None}, {"token": ""}, {"follows": 1}, {"at": "now"}, {"old": None}, {"new": []},
        {"old": {"provider": "onnx"}},
    ],
)  # fmt: skip
def test_a_broken_one_is_refused(broken: dict[str, Any]) -> None:
    whole = orjson.loads(encode_decision(decision("start", "t", None)))
    assert decode_decision(orjson.dumps(whole)).change == "start"
    with pytest.raises(ValueError, match=r"."):
        decode_decision(orjson.dumps(whole | broken))
