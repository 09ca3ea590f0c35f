"""Where the text stands in a JSON object, and how it is moved to where a worker reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SHOWN_NAMES: Final = 10
SHOWN_CHARACTERS: Final = 40  # of a name


def names_in(fields: Mapping[str, Any]) -> str:
    """The names of an object's fields, for a message to a person: bounded, and without any value."""
    names = [name if len(name) <= SHOWN_CHARACTERS else f"{name[: SHOWN_CHARACTERS - 1]}…" for name in fields]
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return (", ".join(names[:SHOWN_NAMES]) or "no fields") + more


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def field_at(fields: Mapping[str, Any], name: str) -> Any:
    """The field of that very name, else the one that its dots lead to. Raises KeyError when there is neither."""
    if name in fields:
        return fields[name]
    value: Any = fields
    for step in name.split("."):
        if not isinstance(value, dict) or step not in value:
            raise KeyError(name)
        value = value[step]
    return value


def locate(value: Any, path: str) -> list[Any] | None:
    """The keys and indices that lead to `path`; None when nothing is there. The longest key that fits goes first."""
    if isinstance(value, dict):
        if path in value:
            return [path]
        dots = [place for place, letter in enumerate(path) if letter == "."]
        for place in reversed(dots):
            name = path[:place]
            if name in value and (rest := locate(value[name], path[place + 1 :])) is not None:
                return [name, *rest]
    if isinstance(value, list):
        name, _, behind = path.partition(".")
        if name.isdecimal() and len(name) < 10 and int(name) < len(value):
            index = int(name)
            if not behind:
                return [index]
            rest = locate(value[index], behind)
            return None if rest is None else [index, *rest]
    return None


def reach(document: Any, steps: list[Any] | None) -> Any:
    """The value that the keys and indices lead to; None without any."""
    for step in steps or ():
        document = document[step]
    return None if steps is None else document


def text_at(fields: Mapping[str, Any], name: str) -> str:
    """The text at a field. Raises ValueError that names the fields there are, or what stands there instead."""
    try:
        text = field_at(fields, name)
    except KeyError:
        raise ValueError(f"no field {name!r}; there are {names_in(fields)}: name one with --text-field") from None
    if not isinstance(text, str):
        raise ValueError(f"{name!r} is {kind_of(text)}, not a string")
    return text


def key_at(fields: Mapping[str, Any], name: str) -> str | int | None:
    """The key or id at a field, which may be null. Raises ValueError where there is no such field, or no such value."""
    try:
        value = field_at(fields, name)
    except KeyError:
        raise ValueError(f"no field {name!r}; there are {names_in(fields)}") from None
    if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
        return value
    raise ValueError(f"{name!r} is {kind_of(value)}, which is no key")


def move_text(fields: Mapping[str, Any], source: str, target: str) -> dict[str, Any]:
    """A copy of an object with its text moved from the field `source` to the path `target`; dots reach inside.

    Raises ValueError as `text_at` does, and where something else is at `target` already: nothing is overwritten.
    """
    text = text_at(fields, source)
    is_literal = source in fields  # or else its dots were followed
    rest = dict(fields)
    if source == target and not (is_literal and "." in source):
        return rest
    if is_literal:
        del rest[source]
    else:
        _remove(rest, source.split("."))
    try:
        moved = put_text(rest, target, text, replace=False)
    except ValueError as exc:
        raise ValueError(
            f"{source!r} cannot be moved to {target!r} (input.text_field), because {exc}; rename one of the two, "
            f"or set input.text_field = {source}"
        ) from None
    return moved


def put_text(fields: Mapping[str, Any], target: str, text: str, *, replace: bool = True) -> dict[str, Any]:
    """A copy of an object with a text at the path `target`; dots reach inside. Raises ValueError where the path leads
    through what is no object and, unless it may `replace` that, where another value stands."""
    inner = whole = dict(fields)
    *steps, last = target.split(".")
    for step in steps:
        child = inner.get(step, {})
        if not isinstance(child, dict):
            raise ValueError(f"{step!r} is {kind_of(child)}")
        inner[step] = inner = dict(child)
    if not replace and inner.get(last, text) != text:
        raise ValueError(f"{target!r} holds something else")
    inner[last] = text
    return whole


def _remove(fields: dict[str, Any], steps: list[str]) -> None:
    for step in steps[:-1]:
        fields[step] = fields = dict(fields[step])
    del fields[steps[-1]]
