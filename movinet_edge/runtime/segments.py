"""Segments of videos and streams, by a bundle of an encoder of snippets and a localization head.

from movinet_edge.runtime.segments import SegmentStream, find_segments

for segment in find_segments("bundle", "video.mp4"):
    print(segment.start, segment.end, segment.label, segment.score)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from movinet_edge.bundle import SCORES, Bundle, Graph, Preprocessing, Snippets
from movinet_edge.errors import BadInput
from movinet_edge.localization.anchors import Anchors
from movinet_edge.localization.conventions import Convention
from movinet_edge.localization.reading import Found, HeadAnswer, read_segments
from movinet_edge.localization.windows import window_starts
from movinet_edge.runtime.engines import Backend
from movinet_edge.runtime.graph import GraphRunner, feature_rings
from movinet_edge.runtime.preprocess import fill
from movinet_edge.runtime.snippets import length_of, read_snippets, snippet_times
from movinet_edge.runtime.stream import check_frame, choose_backend
from movinet_edge.runtime.tracks import Segment, Sighting, Tracker
from movinet_edge.runtime.video import BadVideo, VideoFile, read_frames, upright

THRESHOLD = 0.1  # of scores, from which on a segment is told


class SnippetEncoder:
    """Frames to one vector for each snippet, float32 [C], by the plan's clock."""

    def __init__(self, runner: GraphRunner, clock: Snippets, feature: str, contract: Preprocessing):
        assert runner.frame is not None
        self.runner, self.clock, self.feature, self.contract = runner, clock, feature, contract
        self.frame = runner.frame
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._count = self._skip = 0

    def step(self, image: np.ndarray) -> np.ndarray | None:
        """Take the next frame [H, W, 3]; the vector of the snippet that it completes, if any."""
        if self._skip:
            self._skip -= 1
            return None
        clock, held = self.clock, len(self.frame)
        if self._count == 0:
            self.runner.begin()
        fill(self.frame[self._count % held], image, self.contract)
        self._count += 1
        if self._count % held == 0:
            self.runner.run()
        if self._count < clock.frames:
            return None
        self._skip, kept = max(clock.hop - clock.frames, 0), max(clock.frames - clock.hop, 0)
        if kept:  # of a graph of whole snippets, whose next one has them, too
            self.frame[:kept] = self.frame[clock.hop :].copy()
        self._count = kept
        return self.vector()

    def encode(self, images: np.ndarray) -> np.ndarray:
        """A snippet by itself, images [F, H, W, 3] of the contract's size -> its vector [C]."""
        self.runner.begin()
        held = len(self.frame)
        for first in range(0, len(images), held):
            for slot, image in zip(self.frame, images[first : first + held], strict=True):
                fill(slot, image, self.contract)
            self.runner.run()
        return self.vector()

    def vector(self) -> np.ndarray:
        return np.asarray(self.runner.read(self.feature).reshape(-1), np.float32)


class WindowHead:
    """Features of a window to a head's scores, and these to segments."""

    def __init__(self, bundle: Bundle, runner: GraphRunner, feature: str):
        rule = bundle.manifest.localization
        assert rule is not None
        self.runner, self.answer = runner, bundle.manifest.plan.answer
        self.classes = bundle.manifest.classes
        self.input = runner.windows[feature][0]  # [T, C]
        self.anchors = Anchors(rule.snippets, rule.durations)
        self.convention = Convention(
            peaks=rule.peaks,
            theta=rule.theta,
            keep=rule.keep,
            longest=rule.longest,
            windowed=not rule.whole,
        )

    def score(self, features: np.ndarray) -> tuple[HeadAnswer, np.ndarray]:
        """Features [n, C], n up to T -> the head's answer, and the logits of n places [n, classes].

        Behind the last feature the window is zeros.
        """
        self.input[: len(features)] = features
        self.input[len(features) :] = 0
        self.runner.run()
        overlap, actionness, start, end = (self.runner.read(name)[0] for name in SCORES)
        rows = (self.anchors.as_rows(overlap), self.anchors.as_rows(actionness))
        return HeadAnswer(*rows, start, end), self.runner.read(self.answer)[0, : len(features)]

    def find(self, features: np.ndarray, cell: float, first: float = 0.0) -> Found:
        """What is in so many snippets [n, C], one for each `cell` seconds from `first` on.

        More than the window takes are seen in windows, each half of one after the last.
        """
        count, held = len(features), self.anchors.snippets
        starts = window_starts(count, held)
        answers, logits = [], np.zeros((count, self.classes), np.float32)
        for start in starts:
            answer, seen = self.score(features[start : start + held])
            answers.append((start, answer))
            logits[start : start + held] = seen
        convention = replace(self.convention, windowed=len(starts) > 1 or self.convention.windowed)
        return read_segments(answers, self.anchors, cell, count, convention, logits, first=first)


class SegmentStream:
    """Finds segments in one stream of frames, or in a video file.

    `seconds` is the length of the file that was read last.

    Args:
        bundle: path of a bundle directory or zip, or an opened `Bundle` to share.
        backend: a name of `BACKENDS`, or a backend of your own; by default the first installed
            one the bundle has files for.
        precision: which of the bundle's precisions to run; by default fp32, or the first it has.
            A head that the bundle does not have in it runs in fp32.
        threads: CPU threads of the engine.
        threshold: of scores, in 0..1; less is not told.

    Raises:
        BadInput: unreadable bundle, one that classifies, unknown backend, engine not installed.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        backend: str | Backend | None = None,
        precision: str | None = None,
        threads: int = 1,
        threshold: float = THRESHOLD,
    ):
        if threads < 1:
            raise BadInput(f"threads must be at least 1, not {threads}")
        if not 0 <= threshold <= 1:
            raise BadInput(f"the threshold of scores is between 0 and 1, not {threshold}")
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        manifest = self.bundle.manifest
        if manifest.localization is None:
            raise BadInput(f"{self.bundle.path} classifies and finds no segments; use a Stream")
        self.backend, self.threshold = choose_backend(self.bundle, backend), threshold
        self.rule, self.contract = manifest.localization, manifest.preprocessing
        first, second = manifest.plan.steps
        assert first.snippets is not None
        assert second.after is not None
        self.clock, self.arrivals = first.snippets, second.after
        rings = feature_rings(manifest)
        self.graphs: dict[str, GraphRunner] = {}
        for name in (first.graph, second.graph):
            graph = manifest.graph(name)
            held = _held(graph, self.backend, precision)
            if graph.name == first.graph and precision is not None:
                held = precision  # or it is refused, with what there is
            self.graphs[name] = GraphRunner(self.bundle, graph, self.backend, held, threads, rings)
        feature = self.arrivals.feature
        self.encoder = SnippetEncoder(self.graphs[first.graph], self.clock, feature, self.contract)
        self.head = WindowHead(self.bundle, self.graphs[second.graph], feature)
        self.tracker = Tracker(self.bundle.labels)
        self._window = np.zeros_like(self.head.input)
        self._closed = False
        self.reset()

    @property
    def version(self) -> str:
        """The engine's version."""
        return self.encoder.runner.engine.version

    @property
    def hop(self) -> float:
        """Seconds from a snippet of a stream to the next."""
        return self.clock.hop / self.contract.frame_rate

    def begins(self, snippet: int) -> float:
        """When the cell of a stream's snippet begins, in seconds.

        The snippet's frames have their middle in that of the cell, as those of `snippet_times`,
        which heads are trained with; the cell is as long as `hop`.
        """
        clock = self.clock
        middle = snippet * clock.hop + (clock.frames - 1) / 2
        return (middle - clock.hop / 2) / self.contract.frame_rate

    def reset(self) -> None:
        """Begin a new stream."""
        self.encoder.reset()
        self.tracker.reset()
        self._frames = self._snippets = self._seen = 0
        self.seconds = 0.0
        self._ended = False

    def step(self, frame: np.ndarray) -> list[Segment]:
        """Take the next frame: RGB [H, W, 3], uint8 or float in [0, 1], of any size.

        Returns the segments that are new, changed, final or withdrawn since the last call.

        Raises:
            ValueError: the frame is not such an array (of floats, the first frame's range is
                checked), or the stream is closed or ended.
        """
        self._check_going()
        check_frame(frame, self._frames)
        self._frames += 1
        vector = self.encoder.step(frame)
        return [] if vector is None else self.take(vector)

    def take(self, vector: np.ndarray) -> list[Segment]:
        """As `step`, of the vector [C] of the next snippet."""
        held = len(self._window)
        if self._snippets >= held:
            self._window[:-1] = self._window[1:]
        self._window[min(self._snippets, held - 1)] = vector
        self._snippets += 1
        if self._snippets - self._seen < self.arrivals.count:
            return []
        first = max(self._snippets - held, 0)
        # Until the window moves nothing is final.
        until = first + self.arrivals.count if self._snippets >= held else 0
        return self._look(until)

    def finish(self) -> list[Segment]:
        """The stream has ended: what is left becomes final."""
        self._check_going()
        self._ended = True
        return self._look(self._snippets + 1) if self._snippets else []

    def run(self, frames: Iterable[np.ndarray]) -> Iterator[list[Segment]]:
        """Step through `frames` to their end, yielding what changes."""
        for frame in frames:
            if changes := self.step(frame):
                yield changes
        if changes := self.finish():
            yield changes

    def _look(self, until: int) -> list[Segment]:
        self._seen = self._snippets
        held = min(self._snippets, len(self._window))
        first = self.begins(self._snippets - held)
        sightings = self.sightings(self.head.find(self._window[:held], self.hop, first))
        # Half a snippet before: segments begin with cells, give or take a rounding.
        return self.tracker.see(sightings, first, self.begins(until) - self.hop / 2)

    def sightings(self, found: Found) -> list[Sighting]:
        """What is over the threshold, each with its best label, best first."""
        segments = found.segments
        assert segments is not None
        best: dict[tuple[float, float], Sighting] = {}
        for (start, end), index, score in zip(
            segments.times.tolist(), segments.labels.tolist(), segments.scores.tolist(), strict=True
        ):
            known = best.get((start, end))
            if score >= self.threshold and (known is None or known.score < score):
                best[start, end] = Sighting(start, end, index, score)
        return sorted(best.values(), key=lambda sighting: -sighting.score)

    def find(self, video: str | Path) -> list[Segment]:
        """All segments of a video file, final, by their starts; begins a new stream.

        Raises:
            BadVideo: it cannot be read, or is shorter than a snippet where it is seen as a stream.
        """
        self.reset()
        if self.rule.whole:
            features, self.seconds = self.features(video)
            cell = self.seconds / len(features)
            found = self.sightings(self.head.find(features, cell))
            changes = self.tracker.see(found, 0.0, float("inf"))
            self._ended = True
        else:
            frames = (f.image for f in read_frames(video, self.contract.frame_rate))
            changes = [change for part in self.run(frames) for change in part]
            self.check_seen(video)
            self.seconds = self._frames / self.contract.frame_rate
        final = [segment for segment in changes if segment.status == "final"]
        return sorted(final, key=lambda segment: (segment.start, segment.end))

    def features(self, video: str | Path, seconds: float | None = None) -> tuple[np.ndarray, float]:
        """Vectors of a file's snippets as it is read, [n, C], and how many seconds they cover.

        They are spread over all of it (`Localization.whole`), or each the clock's `hop` after the
        last, from `begins(0)` on. `head.find` says what is in them.

        Args:
            seconds: how long the video is; default: as the file says.

        Raises:
            BadVideo: it cannot be read, or is shorter than a snippet where it is seen as a stream.
        """
        self._check_open()
        if not self.rule.whole:
            self.encoder.reset()
            frames = read_frames(video, self.contract.frame_rate)
            vectors = [v for f in frames if (v := self.encoder.step(f.image)) is not None]
            self.check_seen(video, len(vectors))
            return np.stack(vectors), len(vectors) * self.hop
        with VideoFile(video) as file:
            length, clock = length_of(file, seconds), self.clock
            rate = self.contract.frame_rate
            times = snippet_times(length, self.rule.snippets, clock.frames, rate)
            values = np.zeros_like(self.head.input)
            for number, images in read_snippets(file, times, self._fitted):
                values[number] = self.encoder.encode(images)
        return values, float(length)

    def check_seen(self, video: str | Path, snippets: int | None = None) -> None:
        """Raise `BadVideo` if `video` had no whole snippet; `snippets` are those of the stream."""
        if (self._snippets if snippets is None else snippets) == 0:
            frames, rate = self.clock.frames, self.contract.frame_rate
            raise BadVideo(
                f"{video} is shorter than a snippet ({frames} frames at {rate:g} per second)"
            )

    def _fitted(self, frame: object) -> np.ndarray:
        image = np.empty((self.contract.height, self.contract.width, 3), np.float32)
        fill(image, upright(frame), self.contract)
        return image

    def close(self) -> None:
        """Release the engines."""
        for runner in self.graphs.values():
            runner.close()
        self.graphs.clear()
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the stream is closed")

    def _check_going(self) -> None:
        self._check_open()
        if self._ended:
            raise ValueError("the stream has ended; reset it first")

    def __enter__(self) -> SegmentStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def find_segments(
    bundle: str | Path | Bundle,
    video: str | Path,
    backend: str | Backend | None = None,
    precision: str | None = None,
    threads: int = 1,
    threshold: float = THRESHOLD,
) -> list[Segment]:
    """The segments of a video file, by their starts; arguments are those of `SegmentStream`.

    Raises:
        BadInput: as `SegmentStream` and `SegmentStream.find`.
    """
    with SegmentStream(bundle, backend, precision, threads, threshold) as stream:
        return stream.find(video)


def _held(graph: Graph, backend: Backend, precision: str | None) -> str:
    """The precision that a graph runs in: the one asked for, or floats where there is no other."""
    held = [file.precision for file in graph.files if file.format == backend.format]
    if precision in held:
        return str(precision)
    others = "fp32" in held or not held
    return "fp32" if others else held[0]
