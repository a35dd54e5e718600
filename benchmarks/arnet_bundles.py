"""AR-Net's bundle and the largest scale's alone on a whole split: decisions, answers, and time.

Every video goes through the PyTorch model and through both bundles on one thread, which take turns.
Graphs are counted and timed as they run, so that nothing is taken for not executed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from movinet_edge.benchmarks.machine import describe_machine, tool_versions
from movinet_edge.benchmarks.record import Machine
from movinet_edge.bundle import Record
from movinet_edge.checkpoints.native import load_checkpoint
from movinet_edge.data.clips import Clip, EvalVideos
from movinet_edge.data.listing import read_video_set
from movinet_edge.data.sources import read_source
from movinet_edge.files import write_text
from movinet_edge.models.arnet import ArNet
from movinet_edge.runtime import Stream
from movinet_edge.train.protocols import uniform

FRAMES = 16  # of a video, as published

Videos = list[tuple[np.ndarray, int]]  # frames float32 [T, H, W, 3] in [0, 1], and the class


class Cost(Record):
    """Of a video in the mean: `runs` of each graph, their multiply-adds, and milliseconds.

    `ms` is all of a step; `engine_ms` what the graphs took of it.
    """

    runs: dict[str, float]
    mmacs: float
    ms: float
    engine_ms: float


class Saving(Record):
    """One engine and precision on `videos` videos of `frames` frames in all.

    `ours` and `alone` are what the bundle and the largest scale on all frames took.
    """

    model: str
    engine: str
    precision: str
    videos: int
    frames: int
    ours: Cost
    alone: Cost
    machine: Machine
    versions: dict[str, str]


class BundleRuns(Saving):
    """On the videos of `data`.

    `equal_decisions` and `equal_answers` are shares of frames and of videos at which it did the
    same, and said the same in the end, as the PyTorch model did by itself.
    """

    data: str
    top1: float
    equal_decisions: float
    equal_answers: float


def read_videos(data: Path, split: str, source: Path) -> Videos:
    """All videos as the checkpoint `source` sees them."""
    checkpoint = load_checkpoint(source)
    videos = read_video_set(read_source(data), split, checkpoint.labels)
    found, clips = [], EvalVideos(videos, checkpoint.preprocessing)
    for number in range(len(clips)):
        clip = clips[number]
        assert isinstance(clip, Clip), clip
        frames = clip.frames[uniform(len(clip.frames), FRAMES)]
        found.append((np.ascontiguousarray(frames.permute(0, 2, 3, 1).numpy()), int(clip.target)))
    return found


def decisions(source: Path, videos: Videos) -> list[tuple[list[str], int]]:
    """What the PyTorch model does with each frame of each video, and its last answer."""
    model = load_checkpoint(source).model.eval()
    assert isinstance(model, ArNet)
    names = [action.name for action in model.arch.actions]
    found = []
    for frames, _ in videos:
        with torch.inference_mode():
            done = model.decide(torch.from_numpy(frames).permute(0, 3, 1, 2)[None])
        taken = [names[number] for number in done.decisions[0].argmax(1).tolist()]
        found.append((taken, int(done.logits[0, -1].argmax())))
    return found


class Timed:
    """A stream whose graphs are counted and timed."""

    def __init__(self, bundle: Path, engine: str, precision: str):
        self.stream = Stream(bundle, engine, precision, 1)
        self.runs, self.seconds, self.engine_seconds = Counter[str](), 0.0, 0.0
        for name, runner in self.stream.graphs.items():
            runner.run = self._watched(name, runner.run)  # type: ignore[method-assign]
        self.videos = 0

    def _watched(self, name: str, run: Callable[[], None]) -> Callable[[], None]:
        def watched() -> None:
            began = time.perf_counter()
            run()
            self.engine_seconds += time.perf_counter() - began
            self.runs[name] += 1

        return watched

    def warm_up(self, frames: np.ndarray) -> None:
        """What is done once is not timed."""
        self.video(frames)
        self.runs.clear()
        self.seconds = self.engine_seconds = self.videos = 0

    def video(self, frames: np.ndarray) -> tuple[list[str | None], int]:
        """What it does with each frame, and its last answer."""
        self.stream.reset()
        began = time.perf_counter()
        answers = [self.stream.step(frame) for frame in frames]
        self.seconds += time.perf_counter() - began
        self.videos += 1
        taken = [answer.action for answer in answers if answer is not None]
        assert answers[-1] is not None
        return taken, int(answers[-1].logits.argmax())

    def cost(self) -> Cost:
        macs = {name: runner.graph.macs for name, runner in self.stream.graphs.items()}
        runs = {name: self.runs[name] / self.videos for name in macs}
        return Cost(
            runs=runs,
            mmacs=sum(count * macs[name] for name, count in runs.items()) / 1e6,
            ms=1e3 * self.seconds / self.videos,
            engine_ms=1e3 * self.engine_seconds / self.videos,
        )


def compare(
    bundles: Sequence[Path],
    engine: str,
    precision: str,
    data: Path,
    videos: Videos,
    reference: list[tuple[list[str], int]],
) -> BundleRuns:
    """The bundle and the one of the largest scale, in turn, video by video."""
    ours, alone = (Timed(bundle, engine, precision) for bundle in bundles)
    for timed in (ours, alone):
        timed.warm_up(videos[0][0])
    right, same, equal, frames_seen = 0, 0, 0, 0
    for (frames, label), (wanted, answer) in zip(videos, reference, strict=True):
        # Each gets frames as a decoder leaves them, just written; or the first one alone waits for
        # memory.
        taken, found = ours.video(frames.copy())
        alone.video(frames.copy())
        frames_seen += len(frames)
        right += found == label
        equal += found == answer
        same += sum(a == b for a, b in zip(taken, wanted, strict=True))
    return BundleRuns(
        model=ours.stream.bundle.manifest.name,
        engine=engine,
        precision=precision,
        data=str(data),
        videos=len(videos),
        frames=frames_seen,
        top1=right / len(videos),
        equal_decisions=same / frames_seen,
        equal_answers=equal / len(videos),
        ours=ours.cost(),
        alone=alone.cost(),
        machine=describe_machine(None),
        versions=tool_versions(),
    )


def save(record: Saving, path: Path) -> None:
    write_text(path, record.model_dump_json(indent=1) + "\n")
