"""The PyTorch model as a contestant: eager, compiled, or captured as a CUDA graph.

A step of a causal model is a frame with its state, as in evaluation of streams; of a model that
looks ahead it is a whole clip. Both go from bytes in host memory to logits in host memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from movinet_edge.benchmarks.contestant import EngineClock, Entry
from movinet_edge.benchmarks.record import GraphFile, Subject
from movinet_edge.bundle import MANIFEST, Bundle, Graph, ModelFile, sha256_of
from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.native import Checkpoint, trained_checkpoints
from movinet_edge.errors import BadInput
from movinet_edge.pattern import moving_pattern
from movinet_edge.streaming.spec import describe
from movinet_edge.streaming.state import State

Way = Literal["eager", "compile", "graphs"]
WAYS: tuple[Way, ...] = get_args(Way)
# What autocast computes in; None: the weights' own type.
DTYPES = {"fp32": None, "bf16": torch.bfloat16}
WARM_UPS = 3  # before a capture, as PyTorch's notes on CUDA graphs ask for
GOLDEN_FRAMES = 32
NAME = "pytorch"

# Frames uint8 [B, T, H, W, 3] and a state to logits [B, T or 1, classes] and the next state.
Forward = Callable[[Tensor, State], tuple[Tensor, State]]


@dataclass(frozen=True)
class Source:
    """A model, and the stream it must answer: frames uint8 [T, H, W, 3], logits [T or 1, classes].

    Of a bundle these are its golden stream's, else those of the model itself on the CPU.
    """

    checkpoint: Checkpoint
    file: Path
    bundle: Bundle | None
    frames: np.ndarray
    logits: np.ndarray

    @property
    def name(self) -> str:
        return self.checkpoint.arch.name if self.bundle is None else self.bundle.manifest.name


def read_source(path: Path) -> Source:
    """A bundle's checkpoint, or any checkpoint that ``import`` reads.

    Raises:
        BadInput: it is neither, or a bundle of several models.
    """
    is_bundle = (path / MANIFEST).is_file() or path.suffix == ".zip"
    bundle = Bundle(path) if is_bundle else None
    if bundle is None:
        file = trained_checkpoints().get(str(path), path)
    else:
        file = bundle.file(_reference(bundle)[1])
    if file.exists() and not file.is_file():
        raise BadInput(f"{path} is no single file; make one of it with movinet-edge import")
    checkpoint = read_checkpoint(file)
    checkpoint.model.eval()
    if bundle is None:
        contract = checkpoint.preprocessing
        count = GOLDEN_FRAMES if checkpoint.arch.causal else checkpoint.arch.clip_frames
        frames = moving_pattern(count, contract.height, contract.width)
    else:
        with np.load(bundle.file(bundle.manifest.golden)) as golden:
            frames, logits = golden["frames"], golden["logits"]
        if checkpoint.arch.causal:
            return Source(checkpoint, file, bundle, frames, logits)
        # Its clips may be cut otherwise than the bundle's.
        frames = np.resize(frames, (checkpoint.arch.clip_frames, *frames.shape[1:]))
    with torch.no_grad():
        clip, _ = checkpoint.model(_images(torch.from_numpy(frames)[None]))
    return Source(checkpoint, file, bundle, frames, clip[0].numpy())


def _reference(bundle: Bundle) -> tuple[Graph, ModelFile]:
    steps = bundle.manifest.plan_for("torch").steps
    if len(steps) > 1:
        raise BadInput(f"{bundle.path} holds several models; name one of their checkpoints")
    graph = bundle.manifest.graph(steps[0].graph)
    found = next((file for file in graph.files if file.format == "torch"), None)
    if found is None:
        raise BadInput(f"{bundle.path} has no checkpoint in it; name the one it was made of")
    return graph, found


def _images(frames: Tensor) -> Tensor:
    """Bytes [B, T, H, W, 3] as the model takes them, float32 [B, T, 3, H, W] in 0..1."""
    return frames.permute(0, 1, 4, 2, 3).float() / 255


class Replay:
    """A function captured once and replayed: its inputs, state and answer stay where they are."""

    def __init__(self, forward: Forward, frames: Tensor, state: State):
        self.frames = frames.clone()
        self.state = {name: value.clone() for name, value in state.items()}
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                forward(self.frames, self.state)
        torch.cuda.current_stream().wait_stream(beside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits, after = forward(self.frames, self.state)
            # All are made before any is overwritten: one may be a part of another.
            fresh = {name: value.clone() for name, value in after.items()}
            for name, value in fresh.items():
                self.state[name].copy_(value)

    def __call__(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        self.frames.copy_(frames)
        for name, value in self.state.items():
            if state[name] is not value:
                value.copy_(state[name])
        self.graph.replay()
        return self.logits, self.state


class TorchContestant:
    """A model on a device, in one of the `WAYS` and a precision of `DTYPES`.

    Raises:
        RuntimeError: PyTorch cannot run it so here.
    """

    def __init__(self, entry: Entry, source: Source, device: str):
        self.entry, self.source, self.device = entry, source, device
        self.clock = EngineClock()
        arch, contract = source.checkpoint.arch, source.checkpoint.preprocessing
        self.frame_size = (contract.height, contract.width)
        self.frames_per_step = 1 if arch.causal else len(source.frames)
        self.model = source.checkpoint.model.to(device)
        start = time.perf_counter()
        self._forward, self._state = self._made(1, self.frames_per_step)
        self._wait()
        self.first_step_ms = (time.perf_counter() - start) * 1e3  # compiling and capturing, too
        self.reset()

    def _made(self, batch: int, frames: int) -> tuple[Forward, State]:
        """The model for clips of such a shape, ready to be called, and the state before them."""
        kind, dtype = torch.device(self.device).type, DTYPES[self.entry.precision]
        shown = torch.zeros(batch, frames, *self.frame_size, 3, dtype=torch.uint8)
        shown = shown.to(self.device)

        def plain(clip: Tensor, state: State) -> tuple[Tensor, State]:
            # What autocast keeps would not be computed again when a graph is replayed.
            with torch.autocast(kind, dtype, enabled=dtype is not None, cache_enabled=False):
                return self.model(_images(clip), state or None)

        with torch.no_grad():
            _, after = plain(shown, {})
            # A stream that has just begun, spelled out.
            state = {name: torch.zeros_like(value) for name, value in after.items()}
            if self.entry.way == "graphs":
                replay = Replay(plain, shown, state)
                return replay, replay.state
            if self.entry.way == "compile":
                compiled: Forward = torch.compile(plain, dynamic=False)
                compiled(shown, state)
                return compiled, state
        return plain, state

    def step(self, clip: Iterable[np.ndarray]) -> np.ndarray | None:
        frames = torch.from_numpy(np.stack(list(clip)))[None]
        with torch.no_grad():
            shown = frames.to(self.device)
            self._wait()
            start = time.perf_counter_ns()
            logits, self._state = self._forward(shown, self._state)
            self._wait()
            self.clock.spent += time.perf_counter_ns() - start
            answer: np.ndarray = logits[0, -1].float().cpu().numpy()
        return answer

    def reset(self) -> None:
        with torch.no_grad():
            for value in self._state.values():
                value.zero_()

    def close(self) -> None:
        del self._forward
        self._state = {}

    def clip_times(self, batch: int, frames: int, repeats: int) -> list[float]:
        """Milliseconds for each of `repeats` batches of clips whose bytes are on the device."""
        forward, state = self._made(batch, frames)
        times = []
        clips = torch.randint(0, 256, (batch, frames, *self.frame_size, 3), dtype=torch.uint8)
        clips = clips.to(self.device)
        with torch.no_grad():
            for number in range(WARM_UPS + repeats):
                self._wait()
                start = time.perf_counter_ns()
                forward(clips, state)
                self._wait()
                if number >= WARM_UPS:
                    times.append((time.perf_counter_ns() - start) / 1e6)
        return times

    def _wait(self) -> None:
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize()

    def describe(self) -> Subject:
        source = self.source
        spec = describe(source.checkpoint.model, self.frame_size, self.frames_per_step)
        bundle = source.bundle
        graph = NAME if bundle is None else _reference(bundle)[0].name
        file = source.file
        return Subject(
            label=self.entry.label,
            name=self.entry.name,
            kind="bundle",
            bundle=source.name,
            manifest_sha256=None if bundle is None else sha256_of(bundle.root / MANIFEST),
            backend=NAME,
            engine="torch",
            engine_version=torch.__version__,
            precision=self.entry.precision,
            files=(
                GraphFile(
                    graph=graph,
                    form=self.entry.way,
                    file=file.name,
                    sha256=sha256_of(file),
                    bytes=file.stat().st_size,
                ),
            ),
            frames_per_step=self.frames_per_step,
            macs_per_step=spec.macs,
            state_bytes=spec.state_bytes,
        )
