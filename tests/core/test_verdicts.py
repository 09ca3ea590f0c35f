"""Verdicts on the wire: as documented, read back as they were, and junk says why."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.events import Message, Record, TopicPartition
from streamer.core.vector_events import Malformed, TextSource
from streamer.core.verdicts import NearestEvent, Verdict, decode_verdict, encode_verdict, parse_verdict

TP = TopicPartition("verdicts", 0)
VERDICT = Verdict(
    id="ü", verdict="near_duplicate", similarity=0.9, duplicate_of="a", space="0123456789ab",
    nearest=[NearestEvent("b", 0.9), NearestEvent("a", 0.5)],
    source=TextSource(TopicPartition("texts", 3), 42, 1_700_000_000_000),
)  # fmt: skip
NUMBERS = st.one_of(st.none(), st.floats(-1, 1))
IDS = st.text(max_size=20)


def test_a_verdict_is_encoded_as_documented() -> None:
    message = encode_verdict(VERDICT, "verdicts")
    assert message.value is not None
    assert orjson.loads(message.value) == {
        "id": "ü",
        "verdict": "near_duplicate",
        "similarity": 0.9,
        "duplicate_of": "a",
        "score": None,
        "p_value": None,
        "content_p_value": None,
        "form_p_value": None,
        "reason": None,
        "form_reason": None,
        "events_missing": None,
        "nearest": [{"id": "b", "similarity": 0.9}, {"id": "a", "similarity": 0.5}],
        "space": "0123456789ab",
        "source": {"topic": "texts", "partition": 3, "offset": 42, "timestamp": 1_700_000_000_000},
    }
    headers = (
        ("content-type", b"application/json"),
        ("streamer-space", b"0123456789ab"),
        ("streamer-source", b"texts/3/42"),
    )
    assert message == Message("verdicts", "ü".encode(), message.value, headers)


def test_a_verdict_of_an_earlier_release_is_read() -> None:
    document = orjson.loads(encode_verdict(VERDICT, "verdicts").value or b"")
    for name in ("content_p_value", "form_p_value", "reason", "form_reason", "events_missing"):
        del document[name]
    assert parse_verdict(orjson.dumps(document)) == VERDICT


def test_a_verdict_is_fit_for_json() -> None:
    assert json.loads(json.dumps(VERDICT.to_dict())) == orjson.loads(encode_verdict(VERDICT, "verdicts").value or b"")


@given(
    st.builds(
        Verdict,
        id=IDS,
        verdict=st.sampled_from(["near_duplicate", "anomaly", "ordinary", "warming_up"]),
        similarity=NUMBERS,
        duplicate_of=st.one_of(st.none(), IDS),
        nearest=st.lists(st.builds(NearestEvent, IDS, st.floats(-1, 1)), max_size=5),
        space=IDS,
        source=st.one_of(
            st.none(),
            st.builds(
                TextSource,
                st.builds(TopicPartition, IDS, st.integers(0, 999)),
                st.integers(0, 2**62),
                st.integers(0, 2**41),
            ),
        ),
        score=NUMBERS,
        p_value=NUMBERS,
    )
)
def test_every_verdict_is_read_back_as_it_was(verdict: Verdict) -> None:
    message = encode_verdict(verdict, "verdicts")
    assert decode_verdict(Record(TP, 0, message.key, message.value, 0)) == verdict


DOCUMENT = orjson.loads(encode_verdict(VERDICT, "verdicts").value or b"")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "empty document"),
        (b"[]", "list indices"),
        (b"{}", "'source' is missing"),
        (orjson.dumps(DOCUMENT | {"verdict": "perhaps"}), "unknown verdict 'perhaps'"),
        (orjson.dumps(DOCUMENT | {"nearest": [{"id": "a"}]}), "'similarity' is missing"),
        (orjson.dumps({key: value for key, value in DOCUMENT.items() if key != "p_value"}), "'p_value' is missing"),
    ],
)
def test_junk_says_why(value: bytes, why: str) -> None:
    found = parse_verdict(value)
    assert isinstance(found, Malformed)
    assert why.lower() in found.reason.lower()


def test_a_null_is_no_verdict() -> None:
    assert isinstance(decode_verdict(Record(TP, 0, b"a", None, 0)), Malformed)
