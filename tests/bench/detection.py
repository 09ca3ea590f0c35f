"""How good the verdicts are, beside the usual methods: `python -m tests.bench.detection` prints one line of JSON.

Near-duplicates: AG News with copies and look-alikes injected (copies.py), in random order, copies behind their
originals. Rivals are given their best threshold, found on the answers; ours are the defaults. Texts that the agencies
sent twice are left aside, except for the rate of false alarms on the news as they are, where they are counted apart.
Anomalies: each class of the news in turn, each class of questions in turn, spam among comments, and requests out of
scope among 150 intents (sets.py): 4 % strangers, 30 among the comments. Rivals learn from the first events, which hold
no stranger, and are not updated; ours goes on learning from all of it. "ours" is the joint score. LOF and isolation
forest are left out where scikit-learn is not installed.
Contaminated: the same strangers from the first event on.
Surface anomalies: news broken by rule (surface.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from streamer.core.sketch import form_of, sketch, unpack, unpack_form
from streamer.core.vector_events import VectorEvent
from streamer.core.vectors import Matrix
from streamer.core.verdicts import Verdict
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.verdicts.judge import Judge, VerdictPolicy
from tests.bench import news, rivals, sets, surface
from tests.bench.copies import inject
from tests.bench.news import Vectors
from tests.bench.sets import Labelled

EACH = 150  # copies of each of six kinds; three times as many look-alikes
UNJUDGED = 500  # events at the beginning that are not counted: all methods need something to compare with
LEARNED = 3_700
SURFACES = 20  # of each kind
SHUFFLED = 5_000  # events of a stream with strangers from the first one on
PARTS = ("near_duplicates", "anomalies", "contaminated", "surface_anomalies", "drift", "false_alarms")

Rival = Callable[[Matrix, Matrix], NDArray[np.float64]]
RIVALS: dict[str, Rival] = {
    "knn1": lambda usual, tested: rivals.plain_knn(usual, tested, 1),
    "knn5": rivals.plain_knn,
    "centre": rivals.centre,
}
if importlib.util.find_spec("sklearn") is not None:
    RIVALS |= {"lof50": rivals.local_outlier_factor, "isolation_forest": rivals.isolation_forest}

Booleans = NDArray[np.bool_]


def judge(
    texts: Sequence[str] | None, vectors: Matrix, ids: Sequence[int], policy: VerdictPolicy | None = None
) -> list[Verdict]:
    """The verdicts on a stream, 64 events at a time. Without texts there are no sketches and no forms."""
    judge = Judge(VectorIndex(vectors.shape[1], 30_000), policy or VerdictPolicy())
    events = [
        VectorEvent(
            id=str(i),
            vector=vectors[i],
            space="s",
            model="m",
            sketch=None if texts is None else unpack(sketch(texts[i])),
            form=None if texts is None else unpack_form(form_of(texts[i])),
        )
        for i in ids
    ]
    edges = [*range(0, len(events), 64), len(events)]
    return [verdict for start, end in pairwise(edges) for verdict in judge.judge(events[start:end])]


def f1(flagged: Booleans, copied: Booleans) -> dict[str, float]:
    hits = float((flagged & copied).sum())
    precision, recall = hits / max(1, flagged.sum()), hits / copied.sum()
    return {
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(2 * precision * recall / max(1e-9, precision + recall), 4),
    }


def best_f1(scores: NDArray[np.float64], copied: Booleans) -> dict[str, float]:
    thresholds = np.unique(scores.round(3))
    best = max(thresholds, key=lambda threshold: f1(scores >= threshold, copied)["f1"])
    return {"threshold": round(float(best), 3), **f1(scores >= best, copied)}


def near_duplicates(originals: list[str], vectors: Matrix, seed: int, embed: Vectors) -> dict[str, object]:
    natural = news.natural_copies(originals, vectors)
    kept = [i for i in range(len(originals)) if i not in natural]
    texts = [originals[i] for i in kept]
    items = inject(texts, EACH, seed)
    everything = np.concatenate((vectors[kept], embed([item.text for item in items])))
    all_texts = [*texts, *(item.text for item in items)]
    rng = np.random.default_rng(seed)
    place = rng.random(len(all_texts))
    for i, item in enumerate(items, len(texts)):
        if item.source is not None:
            place[i] = rng.uniform(place[item.source], 1)
    order = np.argsort(place)
    kinds = np.array(["original"] * len(texts) + [item.kind for item in items])[order]
    counted = np.arange(len(order)) >= UNJUDGED
    copied = np.isin(kinds, ("exact", "typo", "reworded", "truncated", "reordered", "extended"))
    streamed, stream_texts = everything[order], [all_texts[i] for i in order]

    def flagged(with_texts: bool) -> tuple[list[Verdict], Booleans]:
        verdicts = judge(stream_texts if with_texts else None, streamed, range(len(order)))
        return verdicts, np.array([verdict.verdict == "near_duplicate" for verdict in verdicts])

    verdicts, ours = flagged(True)
    cosine = rivals.nearest_cosine(streamed)
    sources = {i: item.source for i, item in enumerate(items, len(texts))}
    named = [
        order[int(verdict.duplicate_of)] == sources[order[i]]
        for i, verdict in enumerate(verdicts)
        if verdict.duplicate_of is not None and copied[i]
    ]
    return {
        "events": len(order),
        "copies": int(copied.sum()),
        "look_alikes": int(np.isin(kinds, ("renumbered", "template")).sum()),
        "left_aside": len(natural),
        "ours": f1(ours[counted], copied[counted]),
        "ours_flagged_by_kind": {
            str(kind): round(float(ours[counted & (kinds == kind)].mean()), 3) for kind in np.unique(kinds)
        },
        "ours_names_the_original": round(float(np.mean(named)), 4),
        "ours_without_words": f1(flagged(False)[1][counted], copied[counted]),
        "cosine_0.9": f1(cosine[counted] >= 0.9, copied[counted]),
        "cosine_best": best_f1(cosine[counted], copied[counted]),
        "minhash_words_best": best_f1(rivals.minhash(stream_texts, "words")[counted], copied[counted]),
        "minhash_characters_best": best_f1(rivals.minhash(stream_texts, "characters")[counted], copied[counted]),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": round(float(np.mean(values)), 5), "deviation": round(float(np.std(values)), 5)}


def false_alarms(texts: list[str], vectors: Matrix, shuffles: int) -> dict[str, object]:
    """At the default rate of 1 %, on the news in random order. Counted once p-values exist."""
    natural = news.natural_copies(texts, vectors)
    alone = [i for i in range(len(texts)) if i not in natural]
    anomalies, other_copies, all_copies, alarms_alone = [], [], [], []
    for seed in range(shuffles):
        rng = np.random.default_rng(seed)
        verdicts = [v for v in judge(texts, vectors, rng.permutation(len(texts)).tolist()) if v.p_value is not None]
        duplicates = [verdict for verdict in verdicts if verdict.verdict == "near_duplicate"]
        anomalies.append(sum(v.verdict == "anomaly" for v in verdicts) / (len(verdicts) - len(duplicates)))
        all_copies.append(len(duplicates) / len(verdicts))
        other_copies.append(sum(int(v.id) not in natural for v in duplicates) / len(verdicts))
        verdicts = [v for v in judge(texts, vectors, rng.permutation(alone).tolist()) if v.p_value is not None]
        alarms_alone.append(sum(v.verdict == "near_duplicate" for v in verdicts) / len(verdicts))
    return {
        "shuffles": shuffles,
        "target": 0.01,
        "anomalies": spread(anomalies),
        "near_duplicates_where_nothing_was_sent_twice": spread(alarms_alone),
        "near_duplicates": spread(all_copies),
        "near_duplicates_less_texts_sent_twice": spread(other_copies),
    }


def drift(texts: list[str], vectors: Matrix, labels: NDArray[np.str_], seeds: int) -> dict[str, object]:
    """A class that gives way to another over two fifths of the stream: share of anomalies, and in the worst 500."""
    results = {}
    for before, after in pairwise(("world", "sports", "business", "science", "world")):
        shares, worst = [], []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            old, new = (rng.permutation(np.flatnonzero(labels == name)).tolist() for name in (before, after))
            order, count = [], len(old) + len(new)
            for i in range(count):
                later = rng.random() < np.clip((i / count - 0.3) / 0.4, 0, 1)
                order.append((new if (later and new) or not old else old).pop())
            said = [v for v in judge(texts, vectors, order) if v.p_value is not None]
            raised = np.array([v.verdict == "anomaly" for v in said])
            shares.append(float(raised.mean()))
            worst.append(float(np.convolve(raised, np.ones(500) / 500, "valid").max()))
        results[f"{before} to {after}"] = {
            "rate": round(float(np.mean(shares)), 4),
            "worst_500": round(float(np.mean(worst)), 4),
        }
    return {"target": 0.01, **results}


def auroc(strange: Booleans, scores: Sequence[float] | NDArray[np.float64]) -> float:
    """The chance that a stranger scores higher than an ordinary event; ties count half."""
    ordered = np.sort(np.asarray(scores)[~strange])
    theirs = np.asarray(scores)[strange]
    below = np.searchsorted(ordered, theirs, "left") + np.searchsorted(ordered, theirs, "right")
    return float(below.mean() / (2 * len(ordered)))


def anomalies(data: Mapping[str, Labelled], seeds: int) -> dict[str, object]:
    """AUROC on all sets: per set the mean of its streams and the deviation between seeds; mean and worst set."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    raised: dict[str, list[float]] = {}
    caught: dict[str, list[float]] = {}
    for name, labelled in data.items():
        for seed in range(seeds):
            for stream in sets.streams(name, labelled, seed):
                strange = stream.strange
                order = [*stream.learned.tolist(), *stream.judged.tolist()]
                verdicts = judge(labelled.texts, labelled.vectors, order)[len(stream.learned) :]
                alarms = np.array([verdict.verdict == "anomaly" for verdict in verdicts])
                raised.setdefault(name, []).append(float(alarms[~strange].mean()))
                caught.setdefault(name, []).append(float(alarms[strange].mean()))
                usual, tested = labelled.vectors[stream.learned], labelled.vectors[stream.judged]
                scores: dict[str, Sequence[float] | NDArray[np.float64]] = {
                    "ours": [verdict.score or 0.0 for verdict in verdicts],
                    "ours_content_alone": [-(verdict.content_p_value or 1.0) for verdict in verdicts],
                    "ours_form_alone": [-(verdict.form_p_value or 1.0) for verdict in verdicts],
                    **{method: score(usual, tested) for method, score in RIVALS.items()},
                }
                for method, values in scores.items():
                    by_stream = found.setdefault(method, {}).setdefault(name, {})
                    by_stream.setdefault(stream.name, []).append(auroc(strange, values))
    return {
        "strangers_called_anomalies": {name: spread(values) for name, values in caught.items()},
        "ordinary_called_anomalies_among_strangers": {name: spread(values) for name, values in raised.items()},
        "auroc": {method: _summary(by_set) for method, by_set in found.items()},
    }


def _summary(by_set: Mapping[str, Mapping[str, list[float]]]) -> dict[str, object]:
    by_seed = {name: np.array(list(streams.values())).mean(axis=0) for name, streams in by_set.items()}
    means = {name: float(values.mean()) for name, values in by_seed.items()}
    worst = min(means, key=means.__getitem__)
    return {
        "mean": round(float(np.mean(list(means.values()))), 4),
        "worst": {worst: round(means[worst], 4)},
        "sets": {name: spread(values.tolist()) for name, values in by_seed.items()},
        "streams": {
            name: {stream: round(float(np.mean(values)), 4) for stream, values in streams.items()}
            for name, streams in by_set.items()
            if len(streams) > 1
        },
    }


def contaminated(data: Mapping[str, Labelled], seeds: int) -> dict[str, object]:
    """Strangers among the events from the first one on: who is called an anomaly, once a thousand have been judged."""
    results: dict[str, object] = {}
    for name in ("news", "intents"):
        ordinary, strangers = sets.ordinary(name, data[name])
        for share in (0.0, 0.02, 0.05, 0.1):
            raised, caught = [], []
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                kept = rng.permutation(ordinary)[: int(SHUFFLED * (1 - share))]
                mixed = rng.permutation(strangers)[: round(len(kept) * share / (1 - share))]
                order = rng.permutation(np.concatenate((kept, mixed)))
                verdicts = judge(data[name].texts, data[name].vectors, order.tolist())[1_000:]
                alarms = np.array([verdict.verdict == "anomaly" for verdict in verdicts])
                strange = np.isin(order[1_000:], mixed)
                raised.append(float(alarms[~strange].mean()))
                caught.append(float(alarms[strange].mean()) if share else 0.0)
            results[f"{name}, {share:.0%} strangers"] = {"ordinary": spread(raised), "strangers": spread(caught)}
    return {"target": 0.01, **results}


def surfaces(texts: list[str], vectors: Matrix, seeds: int, embed: Vectors) -> dict[str, object]:
    """Texts broken on the surface (surface.py) among the news: how well the joint score tells them."""
    found: dict[str, list[float]] = {kind: [] for kind in surface.KINDS}
    caught: dict[str, list[float]] = {kind: [] for kind in surface.KINDS}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(texts))
        learned, rest = order[:LEARNED].tolist(), order[LEARNED:].tolist()
        sources = rng.choice(rest, len(surface.KINDS) * SURFACES, replace=False).tolist()
        kinds = [kind for kind in surface.KINDS for _ in range(SURFACES)]
        made = surface.broken([(texts[source], kind) for source, kind in zip(sources, kinds, strict=True)], seed)
        everything = np.concatenate((vectors, embed(made)))
        left = sorted(set(rest).difference(sources)) + list(range(len(texts), len(everything)))
        tested = rng.permutation(left).tolist()
        verdicts = judge([*texts, *made], everything, [*learned, *tested])[LEARNED:]
        scores = np.array([verdict.score or 0.0 for verdict in verdicts])
        kind_of = np.array(["" if i < len(texts) else kinds[i - len(texts)] for i in tested])
        alarms = np.array([verdict.verdict == "anomaly" for verdict in verdicts])
        for kind in surface.KINDS:
            among = (kind_of == kind) | (kind_of == "")
            found[kind].append(auroc(kind_of[among] == kind, scores[among]))
            caught[kind].append(float(alarms[kind_of == kind].mean()))
    means = {kind: round(float(np.mean(values)), 4) for kind, values in found.items()}
    return {
        "auroc": {**means, "mean": round(float(np.mean(list(means.values()))), 4)},
        "called_anomalies": {kind: round(float(np.mean(values)), 3) for kind, values in caught.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=7, help="of the injected copies (weights were chosen on 1)")
    parser.add_argument("--shuffles", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3, help="of the anomaly and drift streams")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--vectors", type=Path, help="folder to keep vectors in; default: one that goes with the run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        embed = Vectors(options.vectors or Path(folder))
        data = sets.load(embed)
        labelled = data["news"]
        texts, vectors, labels = list(labelled.texts), labelled.vectors, labelled.labels
        parts: dict[str, Callable[[], object]] = {
            "near_duplicates": lambda: near_duplicates(texts, vectors, options.seed, embed),
            "anomalies": lambda: anomalies(data, options.seeds),
            "contaminated": lambda: contaminated(data, options.seeds),
            "surface_anomalies": lambda: surfaces(texts, vectors, options.seeds, embed),
            "drift": lambda: drift(texts, vectors, labels, options.seeds),
            "false_alarms": lambda: false_alarms(texts, vectors, options.shuffles),
        }
        results = {part: parts[part]() for part in options.parts}
    print(orjson.dumps({"seeds": options.seeds, **results}, option=orjson.OPT_SERIALIZE_NUMPY).decode())


if __name__ == "__main__":
    main()
