"""Segments live: those of their windows, with ids that stay, in memory that does not grow."""

from __future__ import annotations

import gc
import resource
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.runtime.segments import SegmentStream
from movinet_edge.runtime.tracks import Segment
from tests.localizers import RATE, SIDE, WINDOW

Made = tuple[Checkpoint, Path]


def vectors(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Features of a stream in which something else happens now and then."""
    rng = np.random.default_rng(seed)
    scenes = np.repeat(rng.standard_normal((count // 5 + 1, width)), 5, 0)[:count]
    return (scenes + 0.3 * rng.standard_normal((count, width))).astype(np.float32)


def played(stream: SegmentStream, features: np.ndarray) -> Iterator[list[Segment]]:
    stream.reset()
    for vector in features:
        yield stream.take(vector)
    yield stream.finish()


def test_live_segments_are_those_of_their_windows(one_way_localizer: Made) -> None:
    """Every final segment is what the window that owns it says when it is seen alone."""
    _, path = one_way_localizer
    with SegmentStream(path, "onnxruntime", threshold=0.0) as stream:
        features = vectors(40, stream.head.input.shape[1])
        final = [s for part in played(stream, features) for s in part if s.status == "final"]
        assert len({s.id for s in final}) == len(final)
        hop, step = stream.hop, stream.arrivals.count
        for segment in final:
            place = int((segment.start - stream.begins(0)) / hop + 1e-6)
            start = min(place // step * step, len(features) - WINDOW)
            window = features[start : start + WINDOW]
            alone = stream.sightings(stream.head.find(window, hop, stream.begins(start)))
            assert any(
                abs(s.start - segment.start) < 1e-6
                and abs(s.end - segment.end) < 1e-6
                and s.index == segment.index
                and abs(s.score - segment.score) < 1e-6
                for s in alone
            )


def test_a_stream_of_one_window_is_the_file(one_way_localizer: Made) -> None:
    """What was provisional on the way does not matter in the end."""
    _, path = one_way_localizer
    with SegmentStream(path, "onnxruntime", threshold=0.0) as stream:
        features = vectors(WINDOW, stream.head.input.shape[1])
        parts = list(played(stream, features))
        assert any(s.status == "provisional" for part in parts for s in part)
        final = [s for part in parts for s in part if s.status == "final"]
        offline = stream.sightings(stream.head.find(features, stream.hop, stream.begins(0)))
        assert sorted((s.start, s.end, s.index, s.score) for s in final) == sorted(
            (s.start, s.end, s.index, s.score) for s in offline
        )


def test_ids_are_stable_and_told_once(one_way_localizer: Made) -> None:
    _, path = one_way_localizer
    with SegmentStream(path, "onnxruntime", threshold=0.0) as stream:
        features = vectors(60, stream.head.input.shape[1])
        known: dict[int, Segment] = {}
        for part in played(stream, features):
            for segment in part:
                before = known.get(segment.id)
                assert before is None or before.status == "provisional"
                assert before is None or before.label == segment.label
                assert before != segment
                known[segment.id] = segment
        assert {s.status for s in known.values()} <= {"final", "withdrawn"}
        again = [s for part in played(stream, features) for s in part]
        assert again == [s for part in played(stream, features) for s in part]


def memory_after(stream: SegmentStream, features: np.ndarray) -> int:
    """Bytes that Python holds at the end of a stream."""
    tracemalloc.start()
    for part in played(stream, features):
        del part
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held


def test_memory_is_flat(one_way_localizer: Made) -> None:
    """Ten times as long a stream holds no more."""
    _, path = one_way_localizer
    with SegmentStream(path, "onnxruntime", threshold=0.0) as stream:
        width = stream.head.input.shape[1]
        memory_after(stream, vectors(30, width))
        short, long = (memory_after(stream, vectors(n, width)) for n in (60, 600))
        assert long < short + 64_000
        assert len(stream.tracker._open) + len(stream.tracker._final) < 2 * WINDOW * WINDOW


@pytest.mark.slow
def test_memory_is_flat_for_half_an_hour(one_way_localizer: Made) -> None:
    """Frames and all: 30 minutes at the model's rate, whole process."""
    _, path = one_way_localizer
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (25, SIDE, SIDE, 3), np.uint8)
    with SegmentStream(path, "onnxruntime") as stream:
        peaks = []
        for minute in range(30):
            for number in range(int(60 * RATE)):
                stream.step(np.roll(scene[number % 25], minute, 0))
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        stream.finish()
    assert peaks[-1] - peaks[4] < 4_000  # kB
