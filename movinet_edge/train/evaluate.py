"""Accuracy, work and memory of a classifier over a set of videos, on one process or many.

Under ``torchrun`` every process takes its share of the videos; torchmetrics adds up the counts,
and all processes return the same record.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from movinet_edge.bundle import Preprocessing, Record
from movinet_edge.data.clips import Broken, EvalVideos, loader
from movinet_edge.data.listing import VideoSet
from movinet_edge.errors import BadInput
from movinet_edge.models.arch import VideoModel
from movinet_edge.train.adaptive_eval import published_gflops, torch_predictor
from movinet_edge.train.protocols import Combine, EvalProtocol, Predictor, ProtocolName
from movinet_edge.train.scores import Found, Scores

# Memory is measured on the longest of the first videos.
MEASURED = 4

Progress = Callable[[int, int], None]


class BrokenVideo(Record):
    """A video that was skipped, and why."""

    path: str
    reason: str


class EvalRecord(Record):
    """What an evaluation found; accuracies are shares in 0..1.

    `frames` is the length of a clip (None: whole videos), `clips` their number at most and `crops`
    that of the squares of each; `combine` says how the views' probabilities became one answer.
    `skipped` counts the unreadable videos (`broken`), `missing` those that only the list has.
    `top5` counts an answer among the best ``min(5, classes)``. `per_class` is the top-1 of every
    class, None where it has no video. `confusion` counts videos: a row per true class, a column
    per answer. With `multi_label` a video has any number of classes: `top1` counts best answers
    that are one of them, `per_class` is the average precision, and there is no confusion.
    `mean_average_precision` is over the classes with videos. Of a model that decides, `usage` is
    the share of frames that each action had, and `gflops_per_frame` the mean cost as publications
    count it (multiply-adds). `ms_per_frame` is the mean time of a frame, where it was measured,
    decoding left out. `macs_per_video` is a mean;
    `peak_memory_bytes` covers inputs, activations and states of one video beside the weights (None:
    unknown). `seed` None: not shuffled.
    """

    model: str
    engine: str
    data: str
    splits: tuple[str, ...]
    protocol: ProtocolName
    frames: int | None
    clips: int
    crops: int = 1
    combine: Combine = "mean"
    multi_label: bool = False
    seed: int | None
    videos: int
    skipped: int
    missing: int
    top1: float
    top5: float
    mean_average_precision: float | None = None
    usage: dict[str, float] | None = None
    gflops_per_frame: float | None = None
    ms_per_frame: float | None = None
    macs_per_video: int
    peak_memory_bytes: int | None
    weights_bytes: int
    state_bytes: int
    labels: tuple[str, ...]
    per_class: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    broken: tuple[BrokenVideo, ...]

    @property
    def score_name(self) -> str:
        """What these data are usually judged by."""
        return "mAP" if self.multi_label else "top-1"

    @property
    def score(self) -> float:
        """The share that `score_name` names."""
        return (self.mean_average_precision or 0.0) if self.multi_label else self.top1

    @property
    def logged(self) -> dict[str, float]:
        """What a training run's table of epochs has of it."""
        logged = {"top1": self.top1, "top5": self.top5}
        return logged | {"map": self.score} if self.multi_label else logged

    def to_json(self) -> str:
        """One field per line: matrices would be thousands of lines."""
        fields = self.model_dump(mode="json").items()
        lines = (f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in fields)
        return "{\n" + ",\n".join(lines) + "\n}\n"


@dataclass(frozen=True)
class EvalOptions:
    """`shuffle` gives every video's frames a random order, drawn from `seed` and its place.

    `workers` processes decode; `memory`: measure the peak on one more pass over one video; `time`:
    measure how long frames take.
    """

    shuffle: bool = False
    seed: int = 0
    workers: int = 0
    memory: bool = True
    time: bool = False


@dataclass
class Share:
    """What one process counts besides the metrics; `sample` is the video to be measured."""

    videos: int = 0
    macs: int = 0
    frames: int = 0
    seconds: float = 0.0
    taken: Counter[str] = field(default_factory=Counter)
    broken: list[BrokenVideo] = field(default_factory=list)
    sample: Tensor | None = None


def evaluate(
    predictor: Predictor,
    videos: VideoSet,
    contract: Preprocessing,
    options: EvalOptions = EvalOptions(),
    progress: Progress = lambda done, total: None,
) -> EvalRecord:
    """Answer for every video and count; unreadable videos are skipped and listed.

    With `torch.distributed` running, each process takes its share, `progress` counts that, and
    all get the whole record; only the first one measures memory (None on the others).

    Raises:
        BadInput: the classes do not match, there is no video, none with a class, or none
            can be read.
    """
    check_classes(predictor, videos)
    scores = Scores(predictor.classes, videos.multi_label).to(predictor.device)
    share = _pass(predictor, videos, contract, options, scores, progress)
    shares = _all_shares(share)
    total = Share(
        videos=sum(s.videos for s in shares),
        macs=sum(s.macs for s in shares),
        frames=sum(s.frames for s in shares),
        seconds=sum(s.seconds for s in shares),
        taken=Counter({n: sum(s.taken[n] for s in shares) for n in share.taken}),
        broken=[b for s in shares for b in s.broken],
    )
    if not total.videos:
        first = total.broken[0]
        raise BadInput(
            f"none of the {len(total.broken)} videos can be used ({first.path}: {first.reason}); "
            "look at the data with movinet-edge data check"
        )
    found = scores.compute()
    peak = None
    if options.memory and place()[0] == 0 and share.sample is not None:
        peak = predictor.peak_memory(share.sample)
    return _record(predictor, videos, options, total, found, peak)


def evaluate_model(
    model: VideoModel,
    contract: Preprocessing,
    videos: VideoSet,
    protocol: EvalProtocol,
    *,
    device: torch.device | str = "cpu",
    amp: torch.dtype | None = None,
    options: EvalOptions = EvalOptions(),
    progress: Progress = lambda done, total: None,
) -> EvalRecord:
    """`evaluate` for a model on `device` that may be in training: its modes are as before.

    Raises:
        BadInput: as `evaluate`, or a base model is to stream.
    """
    with _evaluation_mode(model):
        size = contract.height, contract.width
        predictor = torch_predictor(model, size, protocol, torch.device(device), amp)
        return evaluate(predictor, videos, contract, options, progress)


def check_classes(predictor: Predictor, videos: VideoSet) -> None:
    """Raise `BadInput` unless there are videos of exactly the predictor's classes."""
    if not videos.videos:
        raise BadInput(f"{videos.source} holds no videos; choose another --data or --split")
    if len(videos.labels) != predictor.classes:
        raise BadInput(
            f"{videos.source} has {len(videos.labels)} classes and {predictor.name} "
            f"{predictor.classes}; evaluate on videos of the classes it was trained for"
        )
    if videos.multi_label and not any(video.spans for video in videos.videos):
        raise BadInput(f"no video of {videos.source} has a class; there is nothing to find there")
    if predictor.classes < 2:
        raise BadInput(f"{predictor.name} knows one class only; there is nothing to confuse")


def place() -> tuple[int, int]:
    """This process's number among those that evaluate together, and how many these are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def shuffled(frames: Tensor, seed: int, index: int) -> Tensor:
    """Frames [T, ...] in an order that depends on `seed` and the video's `index` only."""
    order = np.random.default_rng([seed, index]).permutation(len(frames))
    return frames[torch.from_numpy(order)]


def _pass(
    predictor: Predictor,
    videos: VideoSet,
    contract: Preprocessing,
    options: EvalOptions,
    scores: Scores,
    progress: Progress,
) -> Share:
    """Every video of this process's share, once."""
    share, (rank, ranks) = Share(), place()
    mine = range(rank, len(videos), ranks)
    crops = predictor.protocol.crops
    data = EvalVideos(videos, contract, crops)
    items = loader(data, options.workers, batch_size=None, sampler=mine)
    for done, item in enumerate(items, start=1):
        if isinstance(item, Broken):
            share.broken.append(BrokenVideo(path=str(item.path), reason=item.reason))
        else:
            frames = item.frames
            if options.shuffle:
                frames = shuffled(frames, options.seed, item.index)
            views = frames.chunk(crops, 3)
            began = time.perf_counter()
            logits = predictor.predict(*views)
            share.seconds += time.perf_counter() - began
            target = torch.from_numpy(item.target).to(predictor.device)
            scores.update(logits.to(predictor.device), target)
            share.videos += 1
            share.macs += predictor.macs(len(frames))
            share.taken.update(predictor.taken)
            windows = predictor.protocol.windows(len(frames))
            share.frames += crops * sum(len(window) for window in windows)
            longest = 0 if share.sample is None else len(share.sample)
            if share.videos <= MEASURED and len(frames) > longest:
                share.sample = views[0]
        progress(done, len(mine))
    return share


def _all_shares(share: Share) -> list[Share]:
    """What all processes counted, without the samples."""
    ranks = place()[1]
    counted = replace(share, sample=None)
    if ranks == 1:
        return [counted]
    shares: list[Share | None] = [None] * ranks
    dist.all_gather_object(shares, counted)
    return [s for s in shares if s is not None]


def _record(
    predictor: Predictor,
    videos: VideoSet,
    options: EvalOptions,
    total: Share,
    found: Found,
    peak: int | None,
) -> EvalRecord:
    protocol = predictor.protocol
    frames = sum(total.taken.values())
    usage = {name: count / frames for name, count in total.taken.items()} if frames else None
    gflops = published_gflops(predictor.architecture, usage or {})
    return EvalRecord(
        model=predictor.name,
        engine=predictor.engine,
        data=str(videos.source),
        splits=tuple(sorted({v.split for v in videos.videos if v.split is not None})),
        protocol=protocol.name,
        frames=protocol.frames,
        clips=protocol.clips,
        crops=protocol.crops,
        combine=protocol.combine,
        multi_label=videos.multi_label,
        seed=options.seed if options.shuffle else None,
        videos=total.videos,
        skipped=len(total.broken),
        missing=len(videos.missing),
        top1=round(found.top1, 6),
        top5=round(found.top5, 6),
        mean_average_precision=round(found.mean_average_precision, 6),
        usage=usage,
        gflops_per_frame=None if gflops is None else round(gflops, 6),
        ms_per_frame=round(1000 * total.seconds / total.frames, 3) if options.time else None,
        macs_per_video=round(total.macs / total.videos),
        peak_memory_bytes=peak,
        weights_bytes=predictor.weights_bytes,
        state_bytes=predictor.state_bytes,
        labels=tuple(videos.labels),
        per_class=found.per_class,
        confusion=tuple(map(tuple, found.confusion)),
        broken=tuple(sorted(total.broken, key=lambda b: b.path)),
    )


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode; afterwards each in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
