"""How a video becomes one answer: streamed, from one clip, or from many clips and crops."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from movinet_edge.bundle import Bundle, Graph, Plan
from movinet_edge.data.sampling import MIDDLE, spread
from movinet_edge.errors import BadInput
from movinet_edge.models.arch import VideoModel
from movinet_edge.models.registry import arch_from_record, deploy_parts
from movinet_edge.runtime.stream import Stream
from movinet_edge.streaming.spec import describe
from movinet_edge.streaming.state import State
from movinet_edge.train.memory import peak_memory, weights_bytes

ProtocolName = Literal["stream", "clip", "multi-clip", "uniform"]
Combine = Literal["mean", "max"]
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)

# Frames per call while a model streams: the numbers do not depend on it, memory and time do.
CHUNK = 8


@dataclass(frozen=True)
class EvalProtocol:
    """Which frames of a video the model sees, and how often.

    ``stream``: every frame once, in order, from the zero state; the answer is that after the last
    frame. ``clip``: one pass over the `frames` frames in the middle. ``multi-clip``: `clips` such
    clips, the first at the beginning and the last at the end, their probabilities averaged; never
    the same clip twice. A video shorter than `frames` is the clip. `frames` None: the whole video.
    ``uniform``: the frames in the middle of `frames` equal parts of the video, as one short stream
    or clip (AR-Net's); of a shorter video all, and the last one again and again.

    `crops`: squares along the longer side that the model sees one by one. With `combine` ``max``
    the highest of all clips' and crops' probabilities counts instead of their mean.
    """

    name: ProtocolName
    frames: int | None = None
    clips: int = 10
    crops: int = 1
    combine: Combine = "mean"

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            raise BadInput(f"unknown protocol {self.name!r}; choose {', '.join(PROTOCOLS)}")
        if self.frames is not None and self.frames < 1:
            raise BadInput(f"a clip has at least 1 frame, not {self.frames}; change --frames")
        if self.clips < 1:
            raise BadInput(f"there is at least 1 clip, not {self.clips}; change --clips")
        if self.crops < 1:
            raise BadInput(f"there is at least 1 crop, not {self.crops}; change --crops")

    def windows(self, length: int) -> list[range | list[int]]:
        """The frames of every pass over a video of `length` frames (at least 1)."""
        if self.name == "stream":
            return [range(length)]
        if self.name == "uniform":
            return [uniform(length, self.frames or length)]
        frames = min(self.frames or length, length)
        spare = length - frames
        clips = min(self.clips, spare + 1) if self.name == "multi-clip" else 1
        starts = [i * spare // (clips - 1) for i in range(clips)] if clips > 1 else [spare // 2]
        return [range(start, start + frames) for start in starts]


def uniform(length: int, frames: int) -> list[int]:
    """Numbers of `frames` frames spread over a video of `length`, and of a short one its last."""
    numbers = spread(length, [MIDDLE] * frames)
    return numbers + numbers[-1:] * (frames - len(numbers))


def _index(window: range | list[int]) -> slice | list[int]:
    return slice(window.start, window.stop) if isinstance(window, range) else window


def combined(logits: Tensor, how: Combine = "mean", multi_label: bool = False) -> Tensor:
    """Logits of views [N, classes] -> [classes]: those of the one, or of all probabilities.

    They are the logarithms of the probabilities' mean or maximum; with `multi_label`, where the
    classes are not one another's alternatives, the logits of those of their sigmoids.
    """
    if len(logits) == 1:
        return logits[0]
    if multi_label:
        return logits.amax(0) if how == "max" else logits.sigmoid().mean(0).logit()
    logs = logits.log_softmax(1)
    return logs.amax(0) if how == "max" else logs.logsumexp(0) - math.log(len(logs))


class Predictor(ABC):
    """Something that answers for whole videos by a protocol.

    Attributes:
        name: of the architecture or the bundle.
        engine: what computes, such as ``torch 2.13.0 (cpu)``.
        classes: how many there are.
        multi_label: whether each class is there or not, whatever the others are.
        device: where the metrics are to be kept.
        weights_bytes: of the weights in memory, or of a bundle's model files.
        state_bytes: what is carried from frame to frame; 0 where whole clips are seen.
        architecture: the record of the model.
    """

    name: str
    engine: str
    classes: int
    multi_label: bool
    protocol: EvalProtocol
    device: torch.device = torch.device("cpu")
    weights_bytes: int
    state_bytes: int
    architecture: dict[str, Any]

    def predict(self, *crops: Tensor) -> Tensor:
        """A video [T, 3, H, W], float32 in [0, 1], T at least 1 -> logits [classes], on the CPU.

        Of several crops and clips they are what `combined` makes of them.
        """
        windows = [_index(window) for window in self.protocol.windows(len(crops[0]))]
        passes = [self.logits(frames[window]) for frames in crops for window in windows]
        return combined(torch.stack(passes), self.protocol.combine, self.multi_label)

    def macs(self, length: int) -> int:
        """Multiply-accumulates of `predict` for all crops of a video of `length` frames."""
        passes = [self.pass_macs(len(w)) for w in self.protocol.windows(length)]
        return self.protocol.crops * sum(passes)

    @property
    def taken(self) -> dict[str, int]:
        """Frames of the last `predict` by what was done with them, where a model decides."""
        return {}

    @abstractmethod
    def logits(self, frames: Tensor) -> Tensor:
        """One pass over frames [T, 3, H, W], nothing known before -> logits [classes]."""

    @abstractmethod
    def pass_macs(self, frames: int) -> int:
        """Multiply-accumulates of one pass."""

    @abstractmethod
    def peak_memory(self, frames: Tensor) -> int | None:
        """Bytes of tensors at the peak of `predict`, its input included; None if unknown.

        A stream is measured frame by frame, as a device would run it.
        """


class TorchPredictor(Predictor):
    """A model in memory; `amp` is the type that autocast computes in, None for float32.

    Args:
        model: in evaluation mode, on `device`.
        size: height and width of the frames.

    Raises:
        BadInput: a base model, which sees whole clips, is to stream.
    """

    def __init__(
        self,
        model: VideoModel,
        size: tuple[int, int],
        protocol: EvalProtocol,
        device: torch.device,
        amp: torch.dtype | None = None,
    ):
        streams = protocol.name == "stream"
        if streams and not model.arch.streams:
            raise BadInput(
                f"{model.arch.name} sees whole clips and does not stream; use --protocol clip"
            )
        self.arch, self.device, self.amp = model.arch, device, amp
        self.architecture = model.arch.model_dump()
        self.model: nn.Module = model.as_stream() if streams else model
        self.protocol = _with_frames(protocol, model.arch.clip_frames)
        self.name, self.classes = model.arch.name, model.arch.classes
        self.multi_label = model.arch.multi_label
        self.engine = f"torch {torch.__version__} ({device.type})"
        self.weights_bytes = weights_bytes(model)
        # What looks ahead runs on for a while behind the last frame.
        graphs = model.arch.deploys and (model.arch.causal or streams)
        parts = deploy_parts(model, size) if graphs else []
        self._delay = max((part.delay for part in parts), default=0)
        self._runs = [(part.every, part.macs) for part in parts]
        self._clip_macs = cache(lambda frames: describe(model, size, frames).macs)
        self.state_bytes = describe(self.model, size).state_bytes if streams else 0

    def logits(self, frames: Tensor) -> Tensor:
        return self._logits(frames, CHUNK if self.protocol.name == "stream" else len(frames))

    def pass_macs(self, frames: int) -> int:
        if not self._runs:
            return self._clip_macs(frames)
        return sum(macs * -(-(frames + self._delay) // every) for every, macs in self._runs)

    def peak_memory(self, frames: Tensor) -> int | None:
        if self.protocol.name == "stream":
            return peak_memory(lambda: self._logits(frames, 1), self.device)
        return peak_memory(lambda: self.predict(frames), self.device)

    def _logits(self, frames: Tensor, chunk: int) -> Tensor:
        """Logits after the last frame, with the state carried from chunk to chunk."""
        state: State | None = None
        logits = torch.empty(0)
        autocast = torch.autocast(self.device.type, self.amp, enabled=self.amp is not None)
        with torch.inference_mode(), autocast:
            for part in frames.split(chunk):
                # A copy even on the CPU, so that measurements see the input.
                clip = part[None].to(self.device, copy=True)
                logits, after = self.model(clip, state)
                state = after or None
            nothing = torch.zeros(self._delay, *frames.shape[1:])
            for part in nothing.split(chunk) if self._delay else ():
                behind = torch.zeros(len(part), device=self.device)
                logits, state = self.model(part[None].to(self.device), state, behind)
        return logits[0, -1].float().cpu()


class BundlePredictor(Predictor):
    """A bundle on one of the runtime's engines; the stream begins anew for every pass.

    Where a graph sees whole clips, a shorter video is completed by repeating its last frame.

    Raises:
        BadInput: the bundle's clips are to stream or to have another length.
    """

    def __init__(self, stream: Stream, protocol: EvalProtocol):
        manifest = stream.bundle.manifest
        self.stream, self._plan = stream, manifest.plan
        self._graphs = {graph.name: graph for graph in manifest.graphs}
        self.protocol = _for_bundle(protocol, stream.bundle)
        self.name, self.classes = manifest.name, manifest.classes
        self.architecture = manifest.provenance.architecture
        self.multi_label = manifest.scores == "sigmoid"
        precision = next(iter(stream.graphs.values())).file.precision
        self.engine = f"{stream.backend.name} {stream.version}"
        self.engine += "" if precision == "fp32" else f" ({precision})"
        runners = stream.graphs.values()
        self.weights_bytes = sum(runner.file.bytes for runner in runners)
        self.state_bytes = sum(r.state_bytes + r.feature_bytes for r in runners)

    def logits(self, frames: Tensor) -> Tensor:
        self.stream.reset()
        for frame in frames.permute(0, 2, 3, 1).numpy():
            self.stream.step(frame)
        answer = self.stream.finish()
        if answer is None:
            raise BadInput(
                f"{self.stream.bundle.path} gives no answer within {len(frames)} frames; "
                "use longer videos or more --frames"
            )
        return torch.from_numpy(answer.logits.astype(np.float32))

    def pass_macs(self, frames: int) -> int:
        return plan_macs(self._plan, self._graphs, frames)

    def peak_memory(self, frames: Tensor) -> int | None:
        return None  # engines have allocators of their own


def plan_macs(plan: Plan, graphs: dict[str, Graph], frames: int) -> int:
    """Multiply-accumulates of a plan for `frames` frames from the start.

    A graph that sees clips also runs on a first clip that is not full.
    """
    total = 0
    for step in plan.steps:
        graph = graphs[step.graph]
        taken = len(range(step.offset, frames + plan.delay, step.every))
        runs = taken // graph.frames
        total += graph.macs * max(runs, min(taken, 1))
    return total


def _with_frames(protocol: EvalProtocol, frames: int) -> EvalProtocol:
    """`protocol` with the length of its clips, if it was left open."""
    if protocol.name == "stream":
        return replace(protocol, frames=None, clips=1)
    if protocol.name == "uniform":
        return replace(protocol, frames=protocol.frames or frames, clips=1)
    clips = protocol.clips if protocol.name == "multi-clip" else 1
    return replace(protocol, frames=protocol.frames or frames, clips=clips)


def _for_bundle(protocol: EvalProtocol, bundle: Bundle) -> EvalProtocol:
    """The protocol with a length of clips that the bundle can take."""
    manifest = bundle.manifest
    # Members that take turns need as many times the frames; parts of one model do not.
    every = min(step.every for step in manifest.plan.steps)
    frames = max(manifest.graph(step.graph).frames for step in manifest.plan.steps)
    if frames == 1:
        if protocol.name == "stream" or protocol.frames is not None:
            return _with_frames(protocol, 1)
        arch = arch_from_record(manifest.provenance.architecture)
        return _with_frames(protocol, every * arch.clip_frames)
    whole = every * frames
    if protocol.name == "stream":
        raise BadInput(
            f"{bundle.path} sees whole clips of {whole} frames and does not stream; "
            "use --protocol clip"
        )
    if protocol.frames not in (None, whole):
        raise BadInput(
            f"{bundle.path} takes clips of exactly {whole} frames, not {protocol.frames}; "
            "leave out --frames"
        )
    return _with_frames(protocol, whole)
