"""How the work of a local model is divided: texts of similar length together, for little padding, among the cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def packed(lengths: Sequence[int], budget: float) -> Iterator[list[int]]:
    """Indices in groups of similar length, shortest first; a group's size times its longest stays within `budget`,
    unless it holds a single text."""
    group: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (len(group) + 1) * lengths[i] > budget:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def alike(lengths: Sequence[int], budget: float) -> Iterator[list[int]]:
    """Indices in groups of the same length, shortest first; a group's size times its length stays within `budget`,
    unless it holds a single text. For models whose vectors would otherwise depend on the padding."""
    group: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (lengths[i] != lengths[group[0]] or (len(group) + 1) * lengths[i] > budget):
            yield group
            group = []
        group.append(i)
    if group:
        yield group
