"""Half an hour of frames, live: memory, and whether final segments are those found afterwards.

``python -m movinet_edge.benchmarks.localization_live BUNDLE DATA`` plays the videos of DATA one
after the other into the bundle on each engine, frame by frame. Afterwards PyTorch encodes every
snippet of the same frames by itself and runs the head on every window that the stream had. A record
per engine goes to ``benchmarks/results/localization/live/``.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from movinet_edge.benchmarks.machine import describe_machine, memory_mb, tool_versions
from movinet_edge.benchmarks.record import Machine
from movinet_edge.benchmarks.slowfast import ENGINES
from movinet_edge.bundle import Bundle, Record
from movinet_edge.errors import BadInput
from movinet_edge.export.localizer_verify import alike
from movinet_edge.files import write_text
from movinet_edge.localization.segments import overlap
from movinet_edge.runtime.segments import SegmentStream
from movinet_edge.runtime.tracks import SAME, Segment
from movinet_edge.runtime.video import read_frames

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/localization/live"
MINUTES = 30


@dataclass(frozen=True)
class Played:
    """What one engine told: final segments, memory after every minute, seconds in all."""

    model: str
    final: list[Segment]
    memory_mb: list[float]
    seconds: float


class LiveRun(Record):
    """One engine on `minutes` minutes of frames.

    `final` segments with a score of 0.1 or more were told; `alike` of them are found afterwards in
    the window that owns them: with tIoU 0.99 and the same label. Of the `owned` segments that are
    found afterwards `told` were told live, or one of the same label that shares half of their time.
    `memory_mb` is the process's at the end of every minute, `seconds` what the stream took.
    """

    model: str
    engine: str
    minutes: int
    snippets: int
    final: int
    alike: int
    owned: int
    told: int
    memory_mb: tuple[float, ...]
    seconds: float
    machine: Machine
    versions: dict[str, str]

    @property
    def growth_mb(self) -> float:
        """After the fifth minute."""
        return max(self.memory_mb[5:]) - self.memory_mb[4]


def read(engine: str) -> LiveRun:
    """The record of an engine."""
    return LiveRun.model_validate_json((RESULTS / f"{engine}.json").read_text("utf-8"))


def frames(data: Path, rate: float) -> list[np.ndarray]:
    """Those of all videos, one after the other, until it is half an hour."""
    videos = sorted(data.glob("*/*.mp4"))
    seen = (frame.image for video in videos for frame in read_frames(video, rate))
    images = list(islice(seen, round(MINUTES * 60 * rate)))
    if len(images) < MINUTES * 60 * rate:
        raise BadInput(f"the videos of {data} are shorter than {MINUTES} minutes")
    return images


def play(bundle: Path, engine: str, images: list[np.ndarray]) -> Played:
    """Live, frame by frame."""
    final, memory, began = list[Segment](), list[float](), time.perf_counter()
    with SegmentStream(bundle, engine) as stream:
        minute = round(60 * stream.contract.frame_rate)
        for number, image in enumerate(images, 1):
            final += [change for change in stream.step(image) if change.status == "final"]
            if number % minute == 0:
                memory.append(memory_mb("VmRSS") or 0.0)
        final += [change for change in stream.finish() if change.status == "final"]
        name = stream.bundle.manifest.name
    return Played(name, final, memory, time.perf_counter() - began)


@dataclass(frozen=True)
class Afterwards:
    """What PyTorch finds in each window of the stream; they begin at `starts`, all in seconds."""

    windows: list[list[Segment]]
    starts: np.ndarray
    snippets: int
    hop: float

    def owner(self, segment: Segment) -> int:
        """The last window that sees the segment begin."""
        return int(np.searchsorted(self.starts, segment.start + self.hop / 2, "right")) - 1

    @property
    def owned(self) -> list[Segment]:
        """Every segment of the window that it belongs to."""
        numbered = enumerate(self.windows)
        return [one for number, seen in numbered for one in seen if self.owner(one) == number]


def afterwards(bundle: Path, images: list[np.ndarray]) -> Afterwards:
    """Every snippet and every window by itself."""
    with SegmentStream(bundle, "torch") as stream:
        clock = stream.clock
        begin = range(0, len(images) - clock.frames + 1, clock.hop)
        vectors = [stream.encoder.encode(np.stack(images[b : b + clock.frames])) for b in begin]
        features, held = np.stack(vectors), len(stream.head.input)
        last = len(features) - held
        starts = [*range(0, last, stream.arrivals.count), last]
        windows = []
        for start in starts:
            part = features[start : start + held]
            seen = stream.head.find(part, stream.hop, stream.begins(start))
            stream.tracker.reset()
            windows.append(stream.tracker.see(stream.sightings(seen), 0.0, float("inf")))
        begins = np.array([stream.begins(start) for start in starts])
        return Afterwards(windows, begins, len(features), stream.hop)


def known(segment: Segment, others: list[Segment]) -> bool:
    """Whether one of the same label shares half of its time."""
    times = [(other.start, other.end) for other in others if other.index == segment.index]
    if not times:
        return False
    return bool(overlap(np.array([(segment.start, segment.end)]), np.array(times)).max() >= SAME)


def compare(engine: str, played: Played, seen: Afterwards) -> LiveRun:
    """One engine against what is found afterwards."""
    final, owned = played.final, seen.owned
    return LiveRun(
        model=played.model,
        engine=engine,
        minutes=MINUTES,
        snippets=seen.snippets,
        final=len(final),
        alike=sum(alike([one], seen.windows[seen.owner(one)])[0] for one in final),
        owned=len(owned),
        told=sum(known(one, final) for one in owned),
        memory_mb=tuple(played.memory_mb),
        seconds=played.seconds,
        machine=describe_machine(None),
        versions=tool_versions(),
    )


def main() -> None:
    bundle, data = map(Path, sys.argv[1:])
    # All of them first, for decoders take and free memory. PyTorch last, for the same reason.
    images = frames(data, Bundle(bundle).manifest.preprocessing.frame_rate)
    played = {engine: play(bundle, engine, images) for engine in ENGINES}
    seen = afterwards(bundle, images)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for engine, one in played.items():
        run = compare(engine, one, seen)
        print(run.model_dump_json(exclude={"machine", "versions"}), flush=True)
        write_text(RESULTS / f"{engine}.json", run.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    main()
