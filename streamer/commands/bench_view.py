"""What `streamer bench` shows to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def table(bench: str, found: Sequence[Mapping[str, Any]]) -> Table:
    """The points of one bench, as docs/schemas/bench-line.schema.json has them."""
    machine = found[0]["machine"]
    title = (
        f"{bench}: medians of {found[0]['runs']} runs (least to largest), {machine['processor']}, "
        f"{machine['cores']} cores, load {machine['load']}"
    )
    shown = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in ("point", "figure"):
        shown.add_column(heading, overflow="fold")
    for heading in ("value", "cpu µs", "reference", "ratio"):
        shown.add_column(heading, justify="right", no_wrap=True)
    varying = _varying([point["parameters"] for point in found])
    for point in found:
        label = ", ".join(f"{name} {_value(point['parameters'][name])}" for name in varying)
        for figure in point["figures"]:
            shown.add_row(label, *_cells(figure))
            label = ""
        shown.add_row(label, "peak memory of the process", f"{point['peak_rss_bytes'] / 1e6:,.0f} MB", "", "", "")
    return shown


def _cells(figure: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    reference, ratio = figure["reference"], figure["ratio"]
    name = figure["name"] if reference is None else f"{figure['name']}; beside: {reference['name']}"
    return (
        name,
        f"{_spread(figure)} {figure['unit']}",
        "" if figure["cpu_us"] is None else _value(figure["cpu_us"]),
        "" if reference is None else _value(reference["median"]),
        "" if ratio is None else _spread(ratio),
    )


def _spread(of: Mapping[str, Any]) -> str:
    if of["low"] == of["high"]:
        return _value(of["median"])
    return f"{_value(of['median'])} ({_value(of['low'])} to {_value(of['high'])})"


def _value(value: Any) -> str:
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _varying(parameters: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of what differs between points; of a single point, all."""
    first = parameters[0]
    return [name for name in first if len(parameters) == 1 or any(other[name] != first[name] for other in parameters)]
