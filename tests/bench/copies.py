"""Copies and look-alikes of news texts, made by rule: what a detector of near-duplicates must find, and must not."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_SYNONYMS: Final = """
said=stated says=states announced=made known will=is going to would=was going to plans=intends planned=intended
buy=purchase bought=purchased sell=offload sold=offloaded rose=climbed rise=climb rises=climbs fell=dropped fall=drop
falls=drops profit=earnings profits=earnings company=firm companies=firms firm=company government=administration
officials=authorities police=officers killed=slain kills=slays attack=assault attacks=assaults new=fresh big=large
biggest=largest large=big major=key first=initial last=final win=victory wins=triumphs won=triumphed beat=defeated
beats=defeats lead=advantage game=match games=matches season=campaign team=side teams=sides players=athletes
coach=manager star=standout people=persons country=nation countries=nations president=head of state
leader=chief leaders=chiefs talks=negotiations deal=agreement agreed=consented agree=consent agrees=consents
court=tribunal judge=magistrate case=lawsuit shares=stock stocks=equities investors=shareholders market=marketplace
price=cost prices=costs oil=crude jobs=positions cut=reduced cuts=reductions growth=expansion quarter=three months
year=twelve months years=a number of years week=seven days day=date today=on this day yesterday=the day before
software=programs computer=PC computers=PCs internet=web users=customers phone=handset phones=handsets
scientists=researchers study=report report=study space=orbit launch=release launched=released help=assist
helped=assisted show=demonstrate shows=demonstrates showed=demonstrated make=produce makes=produces made=produced
get=obtain gets=obtains give=grant gives=grants gave=granted take=seize takes=seizes took=seized begin=start
began=started start=begin started=began end=finish ended=finished try=attempt tries=attempts tried=attempted
against=versus after=following before=ahead of because=since but=yet while=whereas about=roughly nearly=almost
more than=over less than=under up=upward expected=anticipated expects=anticipates warned=cautioned warns=cautions
hit=struck hits=strikes top=leading old=aged home=house world=globe war=conflict election=vote vote=ballot
elections=votes bomb=explosive dead=deceased died=perished injured=hurt wounded=hurt fears=worries concern=worry
concerns=worries problems=troubles problem=trouble security=safety rival=competitor rivals=competitors
""".replace("\n", " ")
_REPLACEMENTS: Final[dict[str, str]] = {
    old: new
    for old, new in re.findall(r"(\S[^=]*?)=((?:(?! \S+=| more than=| less than=).)+)", _SYNONYMS.strip())
    if old.strip()
}

_TEMPLATES: Final = (
    "{a} {verb} {b} {n}-{m}. {a} {verb} {b} {n}-{m} on {day} behind {k} points from {c}, who also had {j} rebounds.",
    "{a} profit {moves} {n} percent. {a} Inc. on {day} said quarterly profit {moves} {n} percent to ${m} million, or "
    "{k} cents a share, on sales of ${j} million.",
    "Weather for {a}. {day}: partly cloudy with a high of {n} and a low of {m}. Winds from the west at {k} miles per "
    "hour. Chance of rain {j} percent.",
    "Alert {j}{k}: disk usage on host {a}-{n}. The volume /data of host {a}-{n} has reached {m} percent of its "
    "capacity since {day}. Please take action within {k} hours.",
    "Flight {n}{m} to {a} delayed. Flight {n}{m} from {b} to {a} on {day} is delayed by {k} minutes and will depart "
    "from gate {j}. We apologise for the inconvenience.",
    "Your order {j}{n}{m} has shipped. Dear {c}, your order {j}{n}{m} was shipped on {day} and will arrive in {k} "
    "days at your address in {a}. Thank you for your purchase.",
)
_NAMES: Final = tuple(
    re.findall(
        r"\w+",
        "Denver Boston Austin Seattle Portland Oakland Houston Dallas Memphis Orlando Atlanta Chicago Toronto Newark "
        "Phoenix Detroit Buffalo Tampa Raleigh Omaha Tulsa Fresno Madison Reno Boise Akron Dayton Toledo Albany",
    )
)
_PEOPLE: Final = tuple(
    re.findall(r"\w+", "Smith Jones Miller Garcia Brown Davis Wilson Moore Taylor Clark Lewis Walker Young King")
)
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def exact(text: str, _: random.Random) -> str:
    return text


def typo(text: str, rng: random.Random) -> str:
    """A slip in every eighth word: two letters swapped, one left out, doubled or wrong."""
    words = text.split(" ")
    for i, word in enumerate(words):
        if len(word) >= 4 and word.isalpha() and rng.random() < 0.125:
            at = rng.randrange(len(word) - 1)
            head, pair, rest = word[:at], word[at : at + 2], word[at + 2 :]
            slips = (pair[::-1], pair[1], pair[0] + pair, rng.choice(_LETTERS) + pair[1])
            words[i] = head + rng.choice(slips) + rest
    return " ".join(words)


def reworded(text: str, rng: random.Random) -> str:
    """Synonyms wherever one is known, articles changed, clauses turned round, the speaker named last."""

    def replace(match: re.Match[str]) -> str:
        word: str = match.group()
        new = _REPLACEMENTS.get(word.lower())
        if new is None:
            return word
        return new.capitalize() if word[0].isupper() else new

    text = re.sub(r"\b(?:more than|less than|[A-Za-z]+)\b", replace, text)
    text = re.sub(r"\b[Tt]he (?=\w)", lambda match: str(match.group()) if rng.random() < 0.5 else "", text)
    sentences = [_turned(sentence) for sentence in _sentences(text)]
    return " ".join(sentences)


def truncated(text: str, rng: random.Random) -> str:
    """The first half, a little more or a little less."""
    words = text.split()
    return " ".join(words[: max(5, int(len(words) * rng.uniform(0.45, 0.75)))])


def reordered(text: str, rng: random.Random) -> str:
    """The same clauses in another order."""
    parts = [part for part in re.split(r"(?<=[.,;:]) +", text) if part]
    if len(parts) < 2:
        words = text.split()
        parts = [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]
    turn = rng.randrange(1, len(parts))
    return " ".join(parts[turn:] + parts[:turn])


def renumbered(text: str, rng: random.Random) -> str:
    """Not a copy: the same words about other numbers."""
    return re.sub(r"\d+", lambda match: _other_number(match.group(), rng), text)


COPIES: Final[dict[str, Callable[[str, random.Random], str]]] = {
    "exact": exact,
    "typo": typo,
    "reworded": reworded,
    "truncated": truncated,
    "reordered": reordered,
}


@dataclass(frozen=True, slots=True)
class Item:
    """A text of the stream. `kind`: "original", the kind of copy, or the kind of look-alike; `source`: which text a
    copy was made of, as an index into the stream's originals."""

    text: str
    kind: str
    source: int | None = None


def inject(originals: Sequence[str], each: int, seed: int) -> list[Item]:
    """`each` copies of every kind and of extended ones, and 3 * `each` look-alikes of two kinds, among the originals.

    Look-alikes are texts of one template with other names and numbers, and originals with other numbers.
    """
    rng = random.Random(seed)
    sources = rng.sample(range(len(originals)), each * (len(COPIES) + 1))
    items: list[Item] = []
    for kind, make in COPIES.items():
        for _ in range(each):
            source = sources.pop()
            items.append(Item(make(originals[source], rng), kind, source))
    for _ in range(each):
        source = sources.pop()
        added = originals[rng.randrange(len(originals))].split()
        length = len(originals[source].split())
        items.append(Item(f"{originals[source]} {' '.join(added[: length // 2])}", "extended", source))
    # Two numbers besides those of character entities: with one, many a changed text still tells the same story.
    numbered = [
        i for i, text in enumerate(originals) if len(set(re.findall(r"(?<!#)\b\d+\b", text))) >= 2 and "#" not in text
    ]
    items += [Item(renumbered(originals[source], rng), "renumbered", source) for source in rng.sample(numbered, each)]
    items += [Item(_filled(_TEMPLATES[i % len(_TEMPLATES)], rng), "template") for i in range(2 * each)]
    return items


def _filled(template: str, rng: random.Random) -> str:
    a, b = rng.sample(_NAMES, 2)
    return template.format(
        a=a,
        b=b,
        c=rng.choice(_PEOPLE),
        day=rng.choice(_DAYS),
        **{name: rng.randrange(11, 99) for name in "nmkj"},
        verb=rng.choice(("beat", "edge", "rout")),
        moves=rng.choice(("rises", "falls")),
    )


def _other_number(number: str, rng: random.Random) -> str:
    while True:
        other = str(rng.randrange(10 ** (len(number) - 1), 10 ** len(number)))
        if other != number:
            return other


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in re.split(r"(?<=[.!?]) +", text) if sentence]


def _turned(sentence: str) -> str:
    head, comma, tail = sentence.rstrip(".").partition(", ")
    if not comma or len(head.split()) < 3 or len(tail.split()) < 3:
        return sentence
    return f"{tail[0].upper()}{tail[1:]}, {head[0].lower()}{head[1:]}."
