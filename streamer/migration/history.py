"""All migrations that the topic tells of: which are running, and what each group has become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from streamer.migration.decisions import Change, Decision, Place, Side, decode_decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """`serving`: the side that answers; once it is not `running` any more, the one that was kept. `started`, `changed`:
    seconds since the epoch. `token`: of the last decision. `number`: grows from migration to migration."""

    old: Side
    new: Side
    running: bool
    serving: Place
    started: float
    changed: float
    token: str
    number: int

    @property
    def server(self) -> Side:
        return self.new if self.serving == "new" else self.old

    @property
    def other(self) -> Side:
        return self.old if self.serving == "new" else self.new

    def after(self, decision: Decision) -> Migration:
        """Raises ValueError, in words for a person, where the change cannot be made now."""
        if reason := self.against(decision.change):
            raise ValueError(reason)
        moved: Mapping[Change, Place] = {"switch": "new", "back": "old"}
        return replace(
            self,
            serving=moved.get(decision.change, self.serving),
            running=decision.change != "finish",
            changed=decision.at,
            token=decision.token,
        )

    def against(self, change: Change) -> str | None:
        """Why this change cannot be made now; None where it can."""
        if change == "start":
            return None if not self.running else f"a change to {self.new.model} (space {self.new.space}) is running"
        if not self.running:
            return f"the change to {self.new.model} is finished; {self.server.model} was kept"
        if change == "switch" and self.serving == "new":
            return f"{self.new.model} (space {self.new.space}) answers already"
        if change == "back" and self.serving == "old":
            return f"{self.old.model} (space {self.old.space}) answers already"
        return None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a group is now. `kept`: the new sides of finished migrations, in the order in which their settings are to be
    applied. `migration`: the last one of the group that it has become, running or finished with the old side kept."""

    kept: Sequence[Side]
    migration: Migration | None

    @property
    def running(self) -> Migration | None:
        return self.migration if self.migration is not None and self.migration.running else None


class History:
    """Takes the decisions in the order of the topic. `ignored`: how many came too late, could not be made, or are none.
    Whoever takes the same ones in the same order comes to the same."""

    def __init__(self) -> None:
        self.ignored = 0
        self._count = 0
        self._counted: set[str] = set()
        self._by_group: dict[str, Migration] = {}

    def take(self, value: bytes | None) -> Decision | None:
        """The decision, if it counts."""
        try:
            decision = decode_decision(value)
            self._by_group[decision.group] = self._made(decision)
        except ValueError:
            self.ignored += 1
            return None
        self._counted.add(decision.token)
        return decision

    def counts(self, token: str) -> bool:
        """Whether the decision of this token came in time and could be made."""
        return token in self._counted

    def _made(self, decision: Decision) -> Migration:
        last = self._by_group.get(decision.group)
        if decision.follows != (None if last is None else last.token):
            raise ValueError("another decision was made before")
        if decision.change != "start":
            if last is None:
                raise ValueError("nothing is running")
            return last.after(decision)
        if last is not None and (reason := last.against("start")):
            raise ValueError(reason)
        if decision.old is None or decision.new is None or decision.old.group != decision.group:
            raise ValueError("a start has two sides, and is named by the old one")
        if not apart(decision.old, decision.new):
            raise ValueError("the two sides share a space, a group or a topic")
        self._count += 1
        return Migration(
            old=decision.old, new=decision.new, running=True, serving="old", started=decision.at,
            changed=decision.at, token=decision.token, number=self._count,
        )  # fmt: skip

    def last(self, group: str) -> Migration | None:
        """The last migration that began with this group as the old side."""
        return self._by_group.get(group)

    def standing(self, group: str) -> Standing:
        """What has become of a group; by the new group of a running migration that one is found, too."""
        kept: list[Side] = []
        since = 0
        # Back to an earlier model is another migration: only later ones are followed, or there would be no end.
        while (found := self._by_group.get(kept[-1].group if kept else group)) and found.number > since:
            if found.running or found.serving == "old":
                return Standing(kept, found)
            kept.append(found.new)
            since = found.number
        beside = [each for each in self._by_group.values() if each.running and each.new.group == group]
        return Standing(kept, beside[0] if beside and not kept else None)


def apart(one: Side, other: Side) -> bool:
    """Whether two sides have nothing in common that could mix their vectors."""
    names = {one.group, *one.topics} & {other.group, *other.topics}
    return one.space != other.space and not names
