"""MoViNet-pytorch (module ``movinets``), eager: the bundle's weights in its model and names."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from movinets import MoViNet
from movinets.config import _C
from torch import Tensor, nn

from movinet_edge.bundle import ModelFile
from movinet_edge.checkpoints.engine import EagerEngine, use_threads
from movinet_edge.checkpoints.native import load_checkpoint
from movinet_edge.checkpoints.pytorch_file import atze_name
from movinet_edge.models.arch import ModelArch
from movinet_edge.models.movinet_table import MoViNetArch
from movinet_edge.runtime.engines import Buffers
from movinet_edge.streaming.activations import ACTIVATIONS, GATES
from movinet_edge.streaming.state import CLOCK

DISTRIBUTION = "MoViNet-pytorch"


class Elementwise(nn.Module):
    """A function as a module, for a checkpoint's own activation in the peer's model."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class MoViNetsEngine(EagerEngine):
    """A checkpoint in the peer's model, which keeps its states itself.

    Of ours it follows the clock: 0 begins a stream.
    """

    def __init__(self, path: Path, file: ModelFile, threads: int):
        try:
            self.version = importlib.metadata.version(DISTRIBUTION)
        except importlib.metadata.PackageNotFoundError:
            self.version = "unknown"
        ours = load_checkpoint(path).model
        model, weights = _built(ours.arch), ours.state_dict()
        for key, value in model.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                value.copy_(weights[atze_name(key) or key].reshape(value.shape))
        super().__init__(model.eval(), file, threads)

    def bind(self, inputs: Buffers, outputs: Buffers) -> Callable[[], None]:
        (frame,) = (inputs[s.name].array for s in self._file.inputs if s.role == "frame")
        (answer,) = (outputs[s.name].array for s in self._file.outputs if s.role == "output")
        model: Any = self._model
        clip = torch.from_numpy(frame).permute(3, 0, 1, 2)[None]
        (before,) = (inputs[s.name].array for s in self._file.inputs if s.state == CLOCK)
        (after,) = (outputs[s.name].array for s in self._file.outputs if s.state == CLOCK)

        def run() -> None:
            use_threads(self._threads)
            if not before.any():
                model.clean_activation_buffers()
            after[...] = before + 1
            with torch.inference_mode():
                answer[...] = model(clip).numpy()

        return run


def _built(arch: ModelArch) -> nn.Module:
    """Their model of our architecture, with the checkpoint's activations where theirs differ."""
    if not isinstance(arch, MoViNetArch) or not arch.causal:
        raise ValueError(f"it has streams of MoViNet, and this is {arch.name}")
    known = arch.squeeze_excite == "2plus3d" and arch.conv == "2plus1d" and arch.rezero
    config = getattr(_C.MODEL, f"MoViNet{arch.variant.upper()}", None)
    if not known or arch.positional_encoding or arch.activation != "hard_swish" or config is None:
        raise ValueError(f"it has no {arch.name} with {arch.summary}")
    model: nn.Module = MoViNet(
        config, causal=True, num_classes=arch.classes, conv_type="2plus1d", tf_like=True
    )
    gate = Elementwise(GATES[arch.gate])
    for module in model.modules():
        if hasattr(module, "activation_2"):
            module.activation_2 = gate
    classifier = model.get_submodule("classifier")
    assert isinstance(classifier, nn.Sequential)
    classifier[1] = Elementwise(ACTIVATIONS[arch.classifier_activation])
    return model
