"""The model that a service says its answers come from."""

from __future__ import annotations

from streamer.errors import ProviderBlocked


class AnsweredModel:
    """Remembers the name in the first answer. Servers write a name with or without its organisation, tag or version."""

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor
        self._first = ""

    def same(self, name: object) -> str | None:
        """The name, None where the service says none. Raises ProviderBlocked when it is another than at first: the
        vectors of two models cannot be compared."""
        if not isinstance(name, str) or not name.strip():
            return None
        name = name.strip()
        self._first = self._first or name
        if not is_same_model(name, self._first):
            raise ProviderBlocked(
                f"{self._vendor} answers with the model {name[:80]!r} now and with {self._first[:80]!r} before; "
                "their vectors cannot be compared: bring the model back, or set provider.model and start again"
            )
        return name


def is_same_model(one: str, other: str) -> bool:
    """Whether two names may mean one model: `BAAI/bge-m3` and `bge-m3`, `ada-002` and `ada-002-v2`."""
    shorter, longer = sorted((_canonical(one), _canonical(other)), key=len)
    return longer.startswith(shorter)


def _canonical(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].casefold().removesuffix(":latest")
