"""Public sets of texts as streams in which something is strange, with the folder that holds them: `../shared/data`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.vectors import Matrix

DATA: Final = Path(__file__).parents[2].parent / "shared" / "data"
CLASSES: Final = {1: "world", 2: "sports", 3: "business", 4: "science"}

_STRANGERS: Final = 0.04  # of the ordinary events among which they are looked for
_COMMENTS: Final = 30  # of them are strange: more would be a large part of so small a set

Indices = NDArray[np.int64]
Embed = Callable[[Sequence[str]], Matrix]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Texts, their vectors, and what each belongs to. `split`: "train", "test" or, where there is no such thing, ""."""

    texts: Sequence[str]
    vectors: Matrix
    labels: NDArray[np.str_]
    split: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Stream:
    """Events to learn from, of which none is strange, and events to judge: indices into a set, in order of arrival."""

    name: str
    learned: Indices
    judged: Indices
    strange: NDArray[np.bool_]


def load(embed: Embed) -> Mapping[str, Labelled]:
    """All sets by name. Exits when one is not there."""
    intents = [row for row in _table("clinc_oos.tsv") if row["split"] in ("train", "test", "oos_test")]
    comments = _table("youtube_comments.tsv")
    questions = _table("trec_questions.tsv")
    texts, classes = news()
    return {
        "news": _labelled(embed, texts, [CLASSES[label] for label in classes.tolist()]),
        "intents": _labelled(embed, _column(intents, "text"), _column(intents, "intent"), _column(intents, "split")),
        "questions": _labelled(embed, _column(questions, "text"), _column(questions, "coarse")),
        "comments": _labelled(embed, _column(comments, "text"), _column(comments, "spam")),
    }


def news() -> tuple[list[str], Indices]:
    """The AG News test split: title and description, and classes, 1 to 4. Exits when it is not there."""
    with _found("ag_news_test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return [f"{title}. {description}" for _, title, description in rows], np.array([int(row[0]) for row in rows])


def utterances() -> list[str]:
    """The texts of CLINC150: 23,000 different short requests. Exits when it is not there."""
    return list(dict.fromkeys(_column(_table("clinc_oos.tsv"), "text")))


def streams(name: str, data: Labelled, seed: int) -> Iterator[Stream]:
    """The streams of a set: for each class that is strange in turn, or for the one that is."""
    rng = np.random.default_rng(1000 + seed)
    labels = data.labels
    if name == "intents":
        learned = rng.permutation(np.flatnonzero(data.split == "train"))
        yield _stream(
            "out of scope", learned, np.flatnonzero(data.split == "test"), np.flatnonzero(data.split == "oos_test"), rng
        )
        return
    turns = ["1"] if name == "comments" else np.unique(labels).tolist()
    for label in turns:
        usual = rng.permutation(np.flatnonzero(labels != label))
        count = {"news": 3_700, "questions": 2_700, "comments": 600}[name]
        most = _COMMENTS if name == "comments" else None
        shown = "spam" if name == "comments" else label
        yield _stream(shown, usual[:count], usual[count:], np.flatnonzero(labels == label), rng, most)


def ordinary(name: str, data: Labelled) -> tuple[Indices, Indices]:
    """Of a whole set, what is ordinary and what is strange: sports among the news, what is out of scope of intents."""
    strange = data.split == "oos_test" if name == "intents" else data.labels == "sports"
    return np.flatnonzero(~strange), np.flatnonzero(strange)


def _stream(
    name: str, learned: Indices, rest: Indices, strangers: Indices, rng: np.random.Generator, most: int | None = None
) -> Stream:
    chosen = rng.permutation(strangers)[: most or int(_STRANGERS * len(rest))]
    judged = rng.permutation(np.concatenate((rest, chosen)))
    return Stream(name, learned, judged, np.isin(judged, chosen))


def _labelled(embed: Embed, texts: Sequence[str], labels: Sequence[str], split: Sequence[str] = ()) -> Labelled:
    return Labelled(texts, embed(texts), np.array(labels), np.array(split or [""] * len(texts)))


def _table(name: str) -> list[dict[str, str]]:
    with _found(name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _column(rows: Sequence[Mapping[str, str]], name: str) -> list[str]:
    return [row[name] for row in rows]


def _found(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        sys.exit(f"{path} is absent: this benchmark needs it")
    return path
