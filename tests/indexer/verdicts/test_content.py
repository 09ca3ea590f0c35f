"""Content scores: what nearest earlier events make an event familiar, and which of them do not count yet."""

from __future__ import annotations

from streamer.indexer.verdicts.content import CANDIDATES, FEWEST, NEIGHBOURS, ContentScore, Note, content_score


def scored(near: list[tuple[float, Note]], arrival: int = 4000, background: float = 0.0) -> ContentScore:
    score = content_score(arrival, near, background)
    assert score is not None
    return score


def test_the_closer_the_less_strange() -> None:
    near = [(0.9, Note(i, 0.8)) for i in range(CANDIDATES)]
    far = [(0.4, Note(i, 0.8)) for i in range(CANDIDATES)]
    assert scored(near).score < scored(far).score
    assert abs(scored(near).density - 0.9) < 1e-9


def test_the_same_distance_is_stranger_where_events_lie_close_together() -> None:
    dense = [(0.6, Note(i, 0.9)) for i in range(CANDIDATES)]
    loose = [(0.6, Note(i, 0.6)) for i in range(CANDIDATES)]
    assert scored(dense).score > scored(loose).score


def test_neighbours_never_judged_are_taken_as_dense_as_the_event_itself() -> None:
    unknown = [(0.6, Note(i)) for i in range(CANDIDATES)]
    known = [(0.6, Note(i, 0.6)) for i in range(CANDIDATES)]
    assert scored(unknown) == scored(known)


def test_strange_neighbours_do_not_count_until_their_probation_is_over() -> None:
    others = [(0.3, Note(i, 0.5)) for i in range(CANDIDATES - 1)]
    for earlier, over in ((9000, 14_000), (400, 900)):  # 5 bits of 1,000 events, or of a quarter of those before it
        stranger = (0.95, Note(earlier, 0.1, 5.0))  # of a p-value of 1 in 32
        late, soon = (scored([stranger, *others], arrival).density for arrival in (over, over - 1))
        assert abs(late - (0.95 + 7 * 0.3) / 8) < 1e-9
        assert abs(soon - 0.3) < 1e-9


def test_surprise_that_is_exempt_puts_nobody_on_probation() -> None:
    others = [(0.3, Note(i, 0.5)) for i in range(CANDIDATES - 1)]

    def found(surprise: float, age: int) -> ContentScore:
        near = [(0.9, Note(9000, 0.1, surprise)), *others]
        score = content_score(9000 + age, near, 0.0, exempt=3.0)
        assert score is not None
        return score

    for surprise, age in ((3.0, 1), (5.0, 2000)):  # 2 bits of 1,000 events are left
        assert abs(found(surprise, age).density - (0.9 + 7 * 0.3) / 8) < 1e-9
        assert found(surprise, age).company == 0
    assert abs(found(5.0, 1999).density - 0.3) < 1e-9
    assert abs(found(5.0, 1000).company - 5 / 2 / 8) < 1e-9


def test_what_is_missing_lies_no_nearer_than_the_farthest_found() -> None:
    on_probation = [(0.9 - i / 100, Note(3999, 0.1, 9.0)) for i in range(CANDIDATES)]
    assert abs(scored(on_probation).density - 0.75) < 1e-9
    some = [(0.9, Note(i, 0.5)) for i in range(3)] + [(0.4, Note(3999, 0.1, 9.0))]
    found = scored(some)
    assert abs(found.density - (3 * 0.9 + 5 * 0.4) / 8) < 1e-9
    assert abs(found.score - (0.5 * 0.5 - (3 * 0.9 + (NEIGHBOURS - 3) * 0.4) / NEIGHBOURS)) < 1e-6


def test_unusual_neighbours_are_company_until_their_probation_is_over() -> None:
    def company(near: list[tuple[float, Note]], arrival: int = 4000) -> float:
        return scored(near, arrival).company

    usual = [(0.5, Note(i, 0.5, 1.0)) for i in range(CANDIDATES)]
    assert company(usual) == 0
    unusual = (0.9, Note(3999, 0.1, 6.0))
    fresh = company([unusual, *usual])
    assert abs(fresh - 6 / 8) < 1e-3
    assert abs(company([unusual, *usual], 3999 + 3 * 999) - fresh / 2) < 0.01
    assert company([unusual, *usual], 3999 + 6 * 1000) == 0
    assert company([*usual[:8], unusual]) == 0  # too far to be company


def test_a_model_with_high_cosines_everywhere_is_scored_alike() -> None:
    plain = scored([(0.6, Note(i, 0.8)) for i in range(CANDIDATES)])
    raised = scored([(0.7 + 0.3 * 0.6, Note(i, 0.7 + 0.3 * 0.8)) for i in range(CANDIDATES)], background=0.7)
    assert abs(plain.score - raised.score) < 1e-6


def test_there_is_no_score_before_there_is_anything_to_compare_with() -> None:
    assert content_score(FEWEST - 1, [(0.5, Note(0))], 0.0) is None
    assert content_score(FEWEST, [], 0.0) is None
    assert content_score(FEWEST, [(0.5, Note(0))], 0.0) is not None
