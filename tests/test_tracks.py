"""Segments of a stream: their numbers, how they are revised, when they are final."""

from __future__ import annotations

import numpy as np

from movinet_edge.runtime.tracks import Segment, Sighting, Tracker

LABELS = ["opening", "closing"]


def seen(start: float, end: float, index: int = 0, score: float = 0.5) -> Sighting:
    return Sighting(start, end, index, score)


def told(changes: list[Segment]) -> list[tuple[int, str]]:
    return [(segment.id, segment.status) for segment in changes]


def test_a_segment_appears_is_revised_and_becomes_final() -> None:
    tracker = Tracker(LABELS)
    assert told(tracker.see([seen(10, 14)], 0, 5)) == [(1, "provisional")]
    assert tracker.see([seen(10, 14)], 0, 5) == []
    (revised,) = tracker.see([seen(10, 15, score=0.6)], 5, 10)
    assert (revised.id, revised.status, revised.end, revised.score) == (1, "provisional", 15, 0.6)
    (final,) = tracker.see([seen(10, 15, score=0.6)], 10, 15)
    assert (final.id, final.status, final.label) == (1, "final", "opening")
    # Seen once more, from its middle on, it stays what it was.
    assert tracker.see([seen(11, 15)], 11, 16) == []


def test_the_rest_of_a_final_segment_is_no_other_one() -> None:
    """Less than half of it is left when the window looks once more."""
    tracker = Tracker(LABELS)
    assert told(tracker.see([seen(0, 20)], 0, 4.5)) == [(1, "final")]
    assert tracker.see([seen(12, 20)], 12, 16.5) == []
    assert told(tracker.see([seen(19, 30)], 16, 19.5)) == [(2, "final")]
    assert told(tracker.see([seen(45, 50)], 40, 44.5)) == [(3, "provisional")]
    assert tracker._final == []


def test_what_is_gone_is_withdrawn_and_its_number_not_given_again() -> None:
    tracker = Tracker(LABELS)
    tracker.see([seen(10, 14), seen(20, 24, 1)], 0, 5)
    assert told(tracker.see([seen(20, 24, 1)], 0, 5)) == [(1, "withdrawn")]
    assert told(tracker.see([seen(10, 14), seen(20, 24, 1)], 0, 5)) == [(3, "provisional")]
    tracker.reset()
    assert told(tracker.see([seen(10, 14)], 0, 5)) == [(1, "provisional")]


def test_other_labels_and_places_are_other_segments() -> None:
    tracker = Tracker(LABELS)
    tracker.see([seen(10, 14)], 0, 5)
    assert told(tracker.see([seen(10, 14, 1)], 0, 5)) == [(2, "provisional"), (1, "withdrawn")]
    assert told(tracker.see([seen(13, 17, 1)], 0, 5)) == [(3, "provisional"), (2, "withdrawn")]


def test_two_in_one_window_are_two() -> None:
    """Soft-NMS has left both; so do we."""
    tracker = Tracker(LABELS)
    changes = tracker.see([seen(10, 14), seen(10, 13.5)], 0, 50)
    assert told(changes) == [(1, "final"), (2, "final")]


def test_final_ones_are_those_of_the_last_window_that_sees_them_begin() -> None:
    """Whatever other windows say in between, and however often."""
    rng = np.random.default_rng(0)
    windows = [
        [seen(s, s + 3, int(s) % 2, rng.random()) for s in rng.uniform(w, w + 20, 9)]
        for w in range(0, 100, 5)
    ]
    tracker = Tracker(LABELS)
    final = []
    for number, window in enumerate(windows):
        window.sort(key=lambda sighting: -sighting.score)
        final += tracker.see(window, 5 * number, 5 * number + 5)
        assert len(tracker._final) < 40
        assert len(tracker._open) <= len(window)
    done = [segment for segment in final if segment.status == "final"]
    assert len({segment.id for segment in done}) == len(done) > 20
    for segment in done:
        window = windows[int(segment.start // 5)]
        assert any(
            (s.start, s.end, s.index) == (segment.start, segment.end, segment.index) for s in window
        )
