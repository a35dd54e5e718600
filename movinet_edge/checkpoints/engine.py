"""The PyTorch model behind the runtime's engine interface: the reference for every artefact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from movinet_edge.bundle import ModelFile, TensorSpec
from movinet_edge.checkpoints.native import load_checkpoint
from movinet_edge.runtime.engines import Buffer, Buffers
from movinet_edge.streaming.state import CLOCK


def use_threads(count: int) -> None:
    """Give PyTorch `count` threads: it has one number for the process, which engines may share."""
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


class EagerEngine:
    """What runs a model in PyTorch has in common: buffers are arrays, and weights go with it."""

    def __init__(self, model: nn.Module, file: ModelFile, threads: int):
        self._model, self._file, self._threads = model, file, threads

    def allocate(self, spec: TensorSpec) -> Buffer:
        return Buffer(spec)

    def close(self) -> None:
        del self._model


class TorchEngine(EagerEngine):
    """Runs a checkpoint eagerly. Its state tensors carry the model's own names and shapes."""

    def __init__(self, path: Path, file: ModelFile, threads: int):
        self.version = torch.__version__
        model = load_checkpoint(path).model
        streams = any(s.state for s in file.inputs)
        super().__init__(model.as_stream() if streams else model, file, threads)

    def bind(self, inputs: Buffers, outputs: Buffers) -> Callable[[], None]:
        tensors = {name: torch.from_numpy(buffer.array) for name, buffer in inputs.items()}
        state_in = {s.state: tensors[s.name] for s in self._file.inputs if s.state}
        state_out = {s.state: outputs[s.name].array for s in self._file.outputs if s.state}
        (frame,) = (tensors[s.name] for s in self._file.inputs if s.role == "frame")
        # Only a model that looks ahead takes it.
        flags = [tensors[s.name][0] for s in self._file.inputs if s.role == "valid"]
        (logits_out,) = (outputs[s.name].array for s in self._file.outputs if s.role == "output")

        def run() -> None:
            use_threads(self._threads)
            with torch.inference_mode():
                clip = frame.permute(0, 3, 1, 2)[None]
                state = {n: v if n == CLOCK else v[None] for n, v in state_in.items() if n}
                logits, after = self._model(clip, state, *flags)
            logits_out[...] = logits[0].numpy()
            for name, array in state_out.items():
                assert name is not None
                value = after[name]
                array[...] = (value if name == CLOCK else value[0]).numpy()

        return run
