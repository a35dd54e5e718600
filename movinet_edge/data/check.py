"""Is a data set in order? Every video is decoded to its end."""

from __future__ import annotations

import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from movinet_edge.bundle import Record
from movinet_edge.data.listing import Video, VideoSet, survey
from movinet_edge.data.sources import Finding
from movinet_edge.errors import BadInput
from movinet_edge.files import sha256_of
from movinet_edge.runtime.video import VideoFile

# What videos belong to that are in no split.
ALL = "all"


class Problem(Record):
    """What is wrong with `subject` (a path, a class or a line), as a sentence."""

    kind: str
    subject: str
    text: str


class Spread(Record):
    """Of some figures."""

    minimum: float
    median: float
    maximum: float


class SplitFacts(Record):
    """The videos of a split; the spreads are of those that can be read (None: of none)."""

    name: str
    videos: int
    per_class: dict[str, int]
    seconds: Spread | None
    width: Spread | None
    height: Spread | None
    frame_rate: Spread | None


class DataCheck(Record):
    """What was found in a data set; `unused` are known labels without a video."""

    source: str
    labels: tuple[str, ...]
    unused: tuple[str, ...]
    splits: tuple[SplitFacts, ...]
    problems: tuple[Problem, ...]

    @property
    def holds(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file: `fault` is what is wrong with it, kind and reason; else the figures hold."""

    sha256: str = ""
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    fault: tuple[str, str] | None = None


def check_data(
    source: Path,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    jobs: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DataCheck:
    """Decode all videos of a data set and look for what would spoil a training.

    Args:
        source, split, labels: as for `read_video_set`.
        jobs: files at a time; default: as many as there are cores.
        progress: told how many files of how many are done.

    Raises:
        BadInput: there is no data set, no such split, or no video in it.
    """
    videos, findings = survey(source, split, labels)
    if not videos and not videos.missing and not findings:
        raise BadInput(f"{source} has no videos{f' in its split {split}' if split else ''}")
    facts = _look_at({video.path for video in videos.videos}, jobs, progress)
    findings += [
        Finding("missing file", name, f"{name} is named by {source} and is not there")
        for name in videos.missing
    ]
    findings += _faults(videos, facts) + _duplicates(videos, facts)
    used = {label for video in videos.videos for label in video.labels}
    return DataCheck(
        source=str(source),
        labels=videos.labels,
        unused=tuple(name for n, name in enumerate(videos.labels) if n not in used),
        splits=_splits(videos, facts),
        problems=tuple(Problem(kind=f.kind, subject=f.subject, text=f.text) for f in findings),
    )


def _look_at(
    paths: set[Path], jobs: int | None, progress: Callable[[int, int], None]
) -> dict[Path, FileFacts]:
    # Decoding leaves the interpreter free: threads are enough.
    pool = ThreadPoolExecutor(jobs or os.cpu_count())
    try:
        futures = {pool.submit(look_at, path): path for path in sorted(paths)}
        facts = {}
        for done, future in enumerate(as_completed(futures), start=1):
            facts[futures[future]] = future.result()
            progress(done, len(futures))
        return facts
    finally:
        pool.shutdown(cancel_futures=True)


def look_at(path: Path) -> FileFacts:
    """Decode a video to its end."""
    count, width, height = 0, 0, 0
    try:
        with VideoFile(path, threads=1) as file:
            for picture in file.pictures():
                count, width, height = count + 1, picture.frame.width, picture.frame.height
        sha256 = sha256_of(path)
    except BadInput as error:
        return FileFacts(fault=("unreadable", str(error)))
    except OSError as error:
        return FileFacts(fault=("unreadable", f"{path} cannot be read ({error.strerror})"))
    seconds = float(file.end or 0)
    if count == 1:
        return FileFacts(sha256, fault=("one frame", f"{path} has only one frame; remove it"))
    return FileFacts(sha256, seconds, width, height, count / seconds if seconds > 0 else 0.0)


def _faults(videos: VideoSet, facts: dict[Path, FileFacts]) -> list[Finding]:
    faults = {path: facts[path].fault for path in dict.fromkeys(v.path for v in videos.videos)}
    found = [Finding(f[0], str(path), f[1]) for path, f in faults.items() if f is not None]
    for video in videos.videos:
        seconds = facts[video.path].seconds
        if faults[video.path] is None and video.start >= seconds:
            text = f"{video.path} lasts {seconds:.2f} s, but a segment starts at {video.start:g} s"
            found.append(Finding("empty segment", str(video.path), f"{text}; correct the list"))
    return found


def _duplicates(videos: VideoSet, facts: dict[Path, FileFacts]) -> list[Finding]:
    """The same content, and the same segment of it, in two classes or two splits."""
    groups: dict[tuple[object, ...], list[Video]] = defaultdict(list)
    for video in videos.videos:
        if sha256 := facts[video.path].sha256:
            groups[sha256, video.start, video.end].append(video)
    found = []
    for group in groups.values():
        first, names = group[0], videos.labels
        for other in group[1:]:
            same = f"{first.path} and {other.path} are the same, but in the"
            if other.labels != first.labels:
                mine, theirs = (", ".join(names[n] for n in v.labels) for v in (first, other))
                classes = f"classes {mine!r} and {theirs!r}"
                text = f"{same} {classes}; remove one"
                found.append(Finding("two classes", str(other.path), text))
            if other.split != first.split:
                text = f"{same} splits {first.split} and {other.split}; remove one"
                found.append(Finding("leak", str(other.path), text))
    return found


def _splits(videos: VideoSet, facts: dict[Path, FileFacts]) -> tuple[SplitFacts, ...]:
    groups: dict[str, list[Video]] = defaultdict(list)
    for video in videos.videos:
        groups[video.split or ALL].append(video)
    return tuple(_split_facts(name, group, videos, facts) for name, group in groups.items())


def _split_facts(
    name: str, group: list[Video], videos: VideoSet, facts: dict[Path, FileFacts]
) -> SplitFacts:
    counts = Counter(label for video in group for label in video.labels)
    sound = [f for video in group if (f := facts[video.path]).fault is None]
    return SplitFacts(
        name=name,
        videos=len(group),
        per_class={label: counts[n] for n, label in enumerate(videos.labels)},
        seconds=_spread(f.seconds for f in sound),
        width=_spread(f.width for f in sound),
        height=_spread(f.height for f in sound),
        frame_rate=_spread(f.frame_rate for f in sound),
    )


def _spread(figures: Iterable[float]) -> Spread | None:
    values = sorted(figures)
    if not values:
        return None
    middle = statistics.median(values)
    return Spread(minimum=values[0], median=middle, maximum=values[-1])
