"""Procedural motion videos: real encoded clips whose classes only temporal order can tell.

Classes come in pairs that are each other's reversal in time (opening and closing). Every scene
shows the same things at random places; in a clip of a class one attribute goes one way, another
swings to and fro over the same range, the rest stand still. So one frame says nothing
about the class, and all frames without their order leave several pairs and both directions
possible.

The variant ``adaptive`` is for models that decide how closely they look: long clips in which for
most of the time nothing happens. Half of the classes are told by a change over time that small
frames show as well, the others by the pattern of a small card that is there for a moment.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import av
import numpy as np

from movinet_edge.data.cards import NOTHING, PATTERNS, Card, draw_card, paint_card
from movinet_edge.data.scene import ATTRIBUTES, Scene, Tracks
from movinet_edge.errors import BadInput
from movinet_edge.files import new_folder

# Attribute, the class in which it grows, the class in which it shrinks; the hardest pair last.
PAIRS = (
    ("across", "moving right", "moving left"),
    ("height", "moving down", "moving up"),
    ("size", "approaching", "retreating"),
    ("doors", "opening", "closing"),
    ("lift", "picking up", "putting down"),
    ("light", "lighting up", "going dark"),
    ("turn", "turning clockwise", "turning counter-clockwise"),
)
# The adaptive variant: changes of the whole picture's look, which take turns with patterns.
COARSE = ("size", "doors", "light")
SHOWN = (("rows", "columns"), ("rising", "falling"), ("checks", "arrows"))
FRAME_RATE = 20
SECONDS = 3.2  # of a trimmed clip
FRAME_RATE_ADAPTIVE = 10
SECONDS_ADAPTIVE = 6.4
SPLITS = {"train": 0.7, "val": 0.1, "test": 0.2}  # shares of the clips of a class


@dataclass(frozen=True, slots=True)
class Action:
    """One class: `attribute` grows (`backwards`: shrinks), or a card of `pattern` is shown."""

    label: str
    attribute: str
    backwards: bool
    pattern: str | None = None

    @property
    def key(self) -> int:
        """A number of its own, from 0 on."""
        if self.pattern is not None:
            return 100 + list(PATTERNS).index(self.pattern)
        return 2 * ATTRIBUTES.index(self.attribute) + self.backwards


ACTIONS = tuple(
    Action(label, attribute, backwards)
    for attribute, grows, shrinks in PAIRS
    for label, backwards in ((grows, False), (shrinks, True))
)
ADAPTIVE = tuple(
    action
    for attribute, patterns in zip(COARSE, SHOWN, strict=True)
    for action in (
        *(action for action in ACTIONS if action.attribute == attribute),
        *(Action(f"showing {name}", "", False, name) for name in patterns),
    )
)
Variant = Literal["plain", "adaptive"]
VARIANTS: dict[str, tuple[Action, ...]] = {"plain": ACTIONS, "adaptive": ADAPTIVE}


@dataclass(frozen=True, slots=True)
class MotionConfig:
    """`per_class` clips of each of `classes` classes, `size` pixels square."""

    classes: int = 12
    per_class: int = 100
    size: int = 96
    seed: int = 0
    untrimmed: bool = False
    variant: Variant = "plain"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise BadInput(f"--variant is {' or '.join(VARIANTS)}, not {self.variant}")
        most = len(VARIANTS[self.variant])
        if self.classes % 2 or not 2 <= self.classes <= most:
            raise BadInput(
                f"--classes must be an even number from 2 to {most} (classes come in "
                f"pairs), not {self.classes}"
            )
        if self.variant == "adaptive" and self.untrimmed:
            raise BadInput("the adaptive variant is of trimmed clips; leave out --untrimmed")
        if self.per_class < 3:
            raise BadInput("--per-class must be at least 3: one clip for each split")
        if self.size < 32 or self.size % 2:
            raise BadInput(f"--size must be an even number from 32 on, not {self.size}")

    @property
    def actions(self) -> tuple[Action, ...]:
        return VARIANTS[self.variant][: self.classes]

    def counts(self) -> dict[str, int]:
        """Clips of each class per split; every split has one at least."""
        rest = {split: max(1, round(self.per_class * SPLITS[split])) for split in ("val", "test")}
        return {"train": self.per_class - sum(rest.values()), **rest}


@dataclass(frozen=True, slots=True)
class Job:
    """One file to write: a trimmed clip of class `action`, or (None) an untrimmed video."""

    path: str  # below the data set's folder
    action: int | None
    number: int
    split: str


def make_motion(
    config: MotionConfig,
    out: Path,
    jobs: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the data set to `out`: ``<split>/<class>/<number>.mp4`` and ``dataset.json``.

    The untrimmed variant has ``<split>/<number>.mp4`` and the segments of all classes in
    ``segments.json`` (ActivityNet's layout). The same configuration gives the same pictures.
    Returns the number of videos; `out` appears when all are written.

    Raises:
        BadInput: `out` exists already or cannot be written.
    """
    todo = list(_untrimmed_jobs(config) if config.untrimmed else _trimmed_jobs(config))
    with new_folder(out) as folder:
        for parent in {(folder / job.path).parent for job in todo}:
            parent.mkdir(parents=True, exist_ok=True)
        database = _write_all(config, todo, folder, jobs, progress)
        facts = {"kind": "motion", **asdict(config), "labels": [a.label for a in config.actions]}
        (folder / "dataset.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        if config.untrimmed:
            text = json.dumps({"version": "motion", "database": database}, indent=1)
            (folder / "segments.json").write_text(text + "\n", "utf-8")
    return len(todo)


def _write_all(
    config: MotionConfig,
    todo: list[Job],
    folder: Path,
    jobs: int | None,
    progress: Callable[[int, int], None],
) -> dict[str, object]:
    """Write all videos; returns ActivityNet's entry of each."""
    database: dict[str, object] = {}
    pool = ProcessPoolExecutor(
        jobs or os.cpu_count(),
        get_context("spawn"),  # the caller may have threads
        signal.signal,  # workers that are interrupted themselves would never come back
        (signal.SIGINT, signal.SIG_IGN),
    )
    try:
        tasks = [pool.submit(_write, config, job, str(folder / job.path)) for job in todo]
        for done, (job, task) in enumerate(zip(todo, tasks, strict=True), start=1):
            segments, seconds = task.result()
            entry = {"subset": job.split, "duration": seconds, "annotations": segments}
            database[job.path] = entry
            progress(done, len(todo))
    except BrokenProcessPool:
        raise BadInput("a drawing process was killed (out of memory?); use --jobs 1") from None
    finally:
        pool.shutdown(cancel_futures=True)
    return database


def _trimmed_jobs(config: MotionConfig) -> Iterator[Job]:
    for index, action in enumerate(config.actions):
        number = 0
        for split, count in config.counts().items():
            for _ in range(count):
                yield Job(f"{split}/{action.label}/{number:05}.mp4", index, number, split)
                number += 1


def _untrimmed_jobs(config: MotionConfig) -> Iterator[Job]:
    number = 0
    for split, count in config.counts().items():
        for _ in range(count):
            yield Job(f"{split}/{number:05}.mp4", None, number, split)
            number += 1


def _write(config: MotionConfig, job: Job, path: str) -> tuple[list[dict[str, object]], float]:
    """Render and encode one video; returns its segments and its duration in seconds."""
    action = None if job.action is None else config.actions[job.action]
    # A class has the same videos whatever other classes there are.
    key = len(ACTIONS) if action is None else action.key
    rng = np.random.default_rng([config.seed, key, job.number])
    card, rate = None, FRAME_RATE
    if action is None:
        tracks, segments = untrimmed_tracks(config.actions, rng)
    elif config.variant == "adaptive":
        rate = FRAME_RATE_ADAPTIVE
        tracks, card = adaptive_tracks(action, int(SECONDS_ADAPTIVE * rate), rng)
        segments = [{"segment": [0.0, SECONDS_ADAPTIVE], "label": action.label}]
    else:
        tracks = clip_tracks(action, int(SECONDS * FRAME_RATE), rng)
        segments = [{"segment": [0.0, SECONDS], "label": action.label}]
    video = render(tracks, config.size, rng, rate, card)
    encode(video, Path(path), crf=int(rng.integers(20, 31)), rate=rate)
    return segments, len(video) / rate


def clip_tracks(action: Action, frames: int, rng: np.random.Generator) -> Tracks:
    """Attributes over `frames` frames in which `action` happens once, [frames] each."""
    tracks = {name: np.full(frames, rng.random(), np.float32) for name in ATTRIBUTES}
    others = [name for name in ATTRIBUTES if name != action.attribute]
    tracks[str(rng.choice(others))] = _swing(frames, rng)
    ramp = _ramp(frames, rng)
    tracks[action.attribute] = ramp[::-1] if action.backwards else ramp
    return tracks


def adaptive_tracks(action: Action, frames: int, rng: np.random.Generator) -> tuple[Tracks, Card]:
    """Attributes over `frames` frames, [frames] each, and the card that is shown.

    In every clip something moves for a while and a card is there for a moment: a movement that
    comes back to where it began says nothing, and neither does a card with a pattern of chance.
    """
    tracks = {name: np.full(frames, rng.random(), np.float32) for name in ATTRIBUTES}
    tells = action.pattern is None
    moving = action.attribute if tells else str(rng.choice(COARSE))
    length = int(FRAME_RATE_ADAPTIVE * rng.uniform(1.6, 2.8))
    first = int(rng.integers(0, frames - length))
    if tells:
        ramp = _ramp(length, rng)
        move = ramp[::-1] if action.backwards else ramp
    else:
        there = _ramp(length - length // 2, rng)
        both = np.concatenate([there, there[::-1][: length // 2]])
        move = 1 - both if rng.random() < 0.5 else both
    before, after = np.full(first, move[0]), np.full(frames - first - length, move[-1])
    tracks[moving] = np.concatenate([before, move, after]).astype(np.float32)
    return tracks, draw_card(action.pattern or NOTHING, frames, FRAME_RATE_ADAPTIVE, rng)


def _ramp(frames: int, rng: np.random.Generator) -> np.ndarray:
    """From near 0 to near 1, at an uneven pace, with rests at both ends."""
    time = np.linspace(0, 1, frames)
    begin, end = rng.uniform(0, 0.15), rng.uniform(0.85, 1)
    pace = ((time - begin) / (end - begin)).clip(0, 1) ** rng.uniform(0.7, 1.4)
    low, high = rng.uniform(0, 0.15), rng.uniform(0.85, 1)
    return (low + (high - low) * pace).astype(np.float32)


def _swing(frames: int, rng: np.random.Generator) -> np.ndarray:
    """To and fro between near 0 and near 1: a triangle wave, which dwells everywhere alike."""
    cycles, phase = rng.uniform(1.8, 2.2), rng.random()
    wave = 2 * np.abs((np.linspace(0, cycles, frames) + phase) % 1 - 0.5)
    low, high = rng.uniform(0, 0.15), rng.uniform(0.85, 1)
    return (low + (high - low) * wave).astype(np.float32)


def untrimmed_tracks(
    actions: tuple[Action, ...], rng: np.random.Generator
) -> tuple[Tracks, list[dict[str, object]]]:
    """Several actions one after the other with pauses, and their segments in seconds."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ATTRIBUTES}
    value = {name: float(rng.random()) for name in ATTRIBUTES}
    segments: list[dict[str, object]] = []
    at = 0
    for _ in range(int(rng.integers(3, 7))):
        at += _pause(parts, value, rng)
        attribute = str(rng.choice([a.attribute for a in actions]))
        # What is open can only close.
        backwards = value[attribute] > 0.5
        action = next(a for a in actions if (a.attribute, a.backwards) == (attribute, backwards))
        frames = int(FRAME_RATE * rng.uniform(1.5, 5))
        target = rng.uniform(0, 0.12) if backwards else rng.uniform(0.88, 1)
        pace = np.linspace(0, 1, frames) ** rng.uniform(0.7, 1.4)
        for name in ATTRIBUTES:
            parts[name].append(np.full(frames, value[name]))
        parts[attribute][-1] = value[attribute] + (target - value[attribute]) * pace
        value[attribute] = float(target)
        times = [at / FRAME_RATE, (at + frames) / FRAME_RATE]
        segments.append({"segment": times, "label": action.label})
        at += frames
    _pause(parts, value, rng)
    return {n: np.concatenate(p).astype(np.float32) for n, p in parts.items()}, segments


def _pause(
    parts: dict[str, list[np.ndarray]], value: dict[str, float], rng: np.random.Generator
) -> int:
    """Background between actions: nothing moves, or one attribute trembles. Returns frames."""
    frames = int(FRAME_RATE * rng.uniform(1, 4))
    trembling = rng.choice(ATTRIBUTES) if rng.random() < 0.5 else None
    for name in ATTRIBUTES:
        track = np.full(frames, value[name])
        if name == trembling:
            cycles = max(1, round(frames / FRAME_RATE))
            track += 0.08 * np.sin(np.linspace(0, 2 * np.pi * cycles, frames))
        parts[name].append(track.clip(0, 1))
    return frames


def render(
    tracks: Tracks,
    size: int,
    rng: np.random.Generator,
    rate: int = FRAME_RATE,
    card: Card | None = None,
) -> np.ndarray:
    """The scene at `rate` frames per second, camera shake, noise: uint8 [T, size, size, 3]."""
    frames = len(tracks["across"])
    steps = rng.normal(0, 0.004, (frames, 2)) * rng.uniform(0.3, 1.5)
    shake = np.zeros((frames, 2))
    for frame in range(1, frames):
        shake[frame] = (0.9 * shake[frame - 1] + steps[frame]).clip(-0.08, 0.08)
    video = Scene(size, rng).render(tracks, np.arange(frames) / rate, shake)
    if card is not None:
        paint_card(video, card)
    noise = rng.standard_normal(video.shape, np.float32)
    video += np.float32(rng.uniform(0.005, 0.03)) * noise
    return (video.clip(0, 1) * 255).astype(np.uint8)


def encode(video: np.ndarray, path: Path, crf: int, rate: int = FRAME_RATE) -> None:
    """Write frames (uint8 [T, H, W, 3]) as H.264, the same bytes every time.

    x264's results vary with its threads and, even with one, with its macroblock tree.
    """
    with av.open(str(path), "w") as container:
        options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        options["x264-params"] = "no-mbtree=1"
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        for image in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
