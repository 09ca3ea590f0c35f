"""The table of slots against a dict."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.indexer.index.slot_table import SlotTable
from tests.support.examples import examples

MOST = 20
IDS = st.integers(0, 40).map(str)


@given(st.lists(st.tuples(IDS, st.booleans()), max_size=200))
@settings(max_examples=examples(300))
def test_finds_what_a_dict_finds(steps: list[tuple[str, bool]]) -> None:
    table, model, names = SlotTable(MOST), dict[str, int](), [""] * MOST
    for id, kept in steps:
        if kept and len(model) < MOST:
            slot = next(slot for slot in range(MOST) if slot not in model.values())
            names[slot] = id
            assert table.put(id, slot, names) == model.get(id)
            model[id] = slot
        else:
            assert table.remove(id, names) == model.pop(id, None)
        assert len(table) == len(model)
        assert {id: table.find(id, names) for id in map(str, range(41))} == dict.fromkeys(map(str, range(41))) | model

    moved = np.arange(MOST)[::-1]
    table.renumber(moved)
    renamed = names[::-1]
    assert {id: table.find(id, renamed) for id in model} == {id: MOST - 1 - slot for id, slot in model.items()}


def test_a_full_table_still_ends_its_searches() -> None:
    for most in (1, 2, 3, 85, 1365):
        table, names = SlotTable(most), [f"id-{i}" for i in range(most + 1)]
        for slot, name in enumerate(names):  # one more than it is for, as before the oldest leaves
            assert table.put(name, slot, names) is None
        assert [table.find(name, names) for name in names] == list(range(most + 1))
        assert table.find("another", names) is None
