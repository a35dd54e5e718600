"""The PyTorch model behind the runtime's engine interface: the reference for every artefact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from movinet_edge.bundle import SCORES, ModelFile, TensorSpec
from movinet_edge.checkpoints.native import load_checkpoint
from movinet_edge.models.encoder import Encoder
from movinet_edge.models.localizer import Localizer
from movinet_edge.runtime.engines import Buffer, Buffers
from movinet_edge.streaming.state import CLOCK, State


def use_threads(count: int) -> None:
    """Give PyTorch `count` threads: it has one number for the process, which engines may share."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


class EagerEngine:
    """What runs a model in PyTorch has in common: buffers are arrays, and weights go with it."""

    version: str = torch.__version__

    def __init__(self, model: nn.Module, file: ModelFile, threads: int):
        self._model, self._file, self._threads = model, file, threads

    def allocate(self, spec: TensorSpec) -> Buffer:
        return Buffer(spec)

    def close(self) -> None:
        del self._model


def torch_engine(path: Path, file: ModelFile, threads: int) -> EagerEngine:
    """What runs a graph's checkpoint: the whole model, or of a localizer its encoder or its head.

    State tensors carry the model's own names and shapes.
    """
    model = load_checkpoint(path).model
    if isinstance(model, Localizer):
        if any(spec.window for spec in file.inputs):
            return HeadEngine(model, file, threads)
        assert model.encoder is not None
        return SnippetEngine(model.encoder, file, threads)
    streams = any(spec.state for spec in file.inputs)
    return TorchEngine(model.as_stream() if streams else model, file, threads)


class TorchEngine(EagerEngine):
    """Runs a model eagerly, frame by frame or clip by clip."""

    def bind(self, inputs: Buffers, outputs: Buffers) -> Callable[[], None]:
        tensors = {name: torch.from_numpy(buffer.array) for name, buffer in inputs.items()}
        state_in = {s.state: tensors[s.name] for s in self._file.inputs if s.state}
        state_out = {s.state: outputs[s.name].array for s in self._file.outputs if s.state}
        (frame,) = (tensors[s.name] for s in self._file.inputs if s.role == "frame")
        # Only a model that looks ahead takes it.
        flags = [tensors[s.name][0] for s in self._file.inputs if s.role == "valid"]
        (answer_out,) = (
            outputs[s.name].array for s in self._file.outputs if s.role in ("output", "feature")
        )

        def run() -> None:
            use_threads(self._threads)
            with torch.inference_mode():
                clip = frame.permute(0, 3, 1, 2)[None]
                state = {n: v if n == CLOCK else v[None] for n, v in state_in.items() if n}
                answer, after = self._answer(clip, state, flags)
            answer_out[...] = answer[0].numpy()
            for name, array in state_out.items():
                assert name is not None
                value = after[name]
                array[...] = (value if name == CLOCK else value[0]).numpy()

        return run

    def _answer(self, clip: Tensor, state: State, flags: Sequence[Tensor]) -> tuple[Tensor, State]:
        """[1, answers, values], and the next state."""
        answered: tuple[Tensor, State] = self._model(clip, state, *flags)
        return answered


class SnippetEngine(TorchEngine):
    """Runs an encoder: of a stream its vector is the mean of what it saw, which is a state."""

    def _answer(self, clip: Tensor, state: State, flags: Sequence[Tensor]) -> tuple[Tensor, State]:
        if not state:
            encoder = self._model
            assert isinstance(encoder, Encoder)
            return encoder.snippets(clip)[None], {}
        _, after = self._model(clip, state)
        return after["head.pool"][None], after


class HeadEngine(EagerEngine):
    """Runs a localizer's head on a window of features."""

    def bind(self, inputs: Buffers, outputs: Buffers) -> Callable[[], None]:
        (window,) = (torch.from_numpy(buffer.array) for buffer in inputs.values())
        arrays = {name: buffer.array for name, buffer in outputs.items()}
        model = self._model
        assert isinstance(model, Localizer)
        anchors = model.arch.head.anchors()

        def run() -> None:
            use_threads(self._threads)
            with torch.inference_mode():
                features = window.transpose(1, 2)
                found = [part.numpy() for part in model.find(features)]
                logits = model.place_logits(features).numpy()
            values = [*(anchors.as_map(part) for part in found[:2]), *found[2:]]
            for name, value in zip(SCORES, values, strict=True):
                arrays[name][...] = value
            (answer,) = (array for name, array in arrays.items() if name not in SCORES)
            answer[...] = logits

        return run
