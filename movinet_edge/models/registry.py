"""Model families by name: how an architecture record becomes a model and a deploy body."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from movinet_edge.bundle import Preprocessing
from movinet_edge.errors import BadInput
from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.movinet_deploy import DeployMoViNet
from movinet_edge.models.movinet_table import VARIANTS, MoViNetArch, published_arch


@dataclass(frozen=True)
class Family:
    """One family of models; `deploy` takes the model and the frame size (height, width)."""

    arch: type[MoViNetArch]
    build: Callable[[MoViNetArch], MoViNet]
    deploy: Callable[[MoViNet, tuple[int, int]], DeployMoViNet]


FAMILIES: dict[str, Family] = {"movinet": Family(MoViNetArch, MoViNet, DeployMoViNet)}

MODELS: dict[str, MoViNetArch] = {
    arch.name: arch
    for variant in VARIANTS
    for causal in (True, False)
    for arch in [published_arch(variant, causal)]  # type: ignore[arg-type]
}


def named_arch(name: str) -> MoViNetArch:
    """The published architecture called `name`: ``movinet-a0-stream``, or ``a0-stream`` for short.

    Raises:
        BadInput: there is none of that name.
    """
    if not is_model(name):
        raise BadInput(f"unknown model {name!r}; movinet-edge models lists them all")
    return MODELS.get(name) or MODELS[f"movinet-{name}"]


def is_model(name: str) -> bool:
    """Whether a published architecture is called so, in full or for short."""
    return name in MODELS or f"movinet-{name}" in MODELS


def arch_from_record(record: dict[str, Any]) -> MoViNetArch:
    """The architecture that a checkpoint or manifest carries.

    Raises:
        BadInput: unknown family or fields.
    """
    family = FAMILIES.get(record.get("family", ""))
    if family is None:
        raise BadInput(f"unknown model family {record.get('family')!r}; update movinet-edge")
    try:
        return family.arch.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"bad architecture record: {first['loc']}: {first['msg']}") from None


def build(arch: MoViNetArch) -> MoViNet:
    """A fresh model of an architecture, in evaluation mode."""
    return FAMILIES[arch.family].build(arch).eval()


def deploy_body(
    model: MoViNet, frame_size: tuple[int, int], integers: bool = False
) -> DeployMoViNet:
    """The model's deploy form, spelt for floats or `integers`; see `DeployMoViNet.fold`."""
    body = FAMILIES[model.arch.family].deploy(model, frame_size)
    if integers:
        body.fold({})
    return body.eval()


def default_preprocessing(arch: MoViNetArch) -> Preprocessing:
    """Square centre crop at the architecture's resolution and frame rate."""
    return Preprocessing(height=arch.resolution, width=arch.resolution, frame_rate=arch.frame_rate)


def seeded_model(arch: MoViNetArch, seed: int = 0) -> MoViNet:
    """Untrained weights that exercise every part: for demos and tests, not for answers.

    ReZero scales, initially 0, would switch all blocks off and fresh batch norm would let
    activations vanish; so the scales are set and the statistics taken from moving noise.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FAMILIES[arch.family].build(arch)
        for name, parameter in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf == "scale":
                # Deeper models take less per block, or noise would grow beyond what float32
                # computes the same way twice.
                share = min(1.0, 15 / len(arch.table.layers()))
                nn.init.uniform_(parameter, 0.4 * share, 0.9 * share)
            elif "classify.weight" in name:
                nn.init.normal_(parameter, std=0.05)
            elif leaf == "bias" and ".se." in name:
                nn.init.normal_(parameter, std=0.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # a plain average over the batches seen
        side = min(arch.resolution, 128)
        rng = np.random.default_rng(seed)
        for _ in range(2):
            coarse = torch.from_numpy(rng.random((1, 3, 6, 8, 8), np.float32))
            clip = nn.functional.interpolate(coarse, (6, side, side), mode="trilinear")
            with torch.no_grad():
                model.train()(clip.transpose(1, 2))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.01
    return model.eval()


def weights_sha256(model: nn.Module) -> str:
    """A hash of all weights by name, independent of the file they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(json.dumps([name, list(value.shape)]).encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
