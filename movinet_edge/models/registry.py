"""Model families by name: how an architecture record becomes a model and a deploy body."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from movinet_edge.bundle import Preprocessing
from movinet_edge.errors import BadInput
from movinet_edge.models import movinet_quant, slowfast_quant
from movinet_edge.models.arch import ModelArch, VideoModel
from movinet_edge.models.arnet import ArNet
from movinet_edge.models.arnet_deploy import step_parts as arnet_parts
from movinet_edge.models.arnet_table import VARIANTS as ARNETS
from movinet_edge.models.arnet_table import ArNetArch, arnet_arch
from movinet_edge.models.encoder import Encoder, EncoderArch
from movinet_edge.models.encoder_deploy import encoder_part
from movinet_edge.models.localizer import Localizer
from movinet_edge.models.localizer_table import LocalizerArch, published_heads
from movinet_edge.models.movinet import Block, MoViNet
from movinet_edge.models.movinet_deploy import DeployMoViNet, split_parts
from movinet_edge.models.movinet_table import VARIANTS, MoViNetArch, published_arch
from movinet_edge.models.r2plus1d import R2plus1d
from movinet_edge.models.r2plus1d_deploy import r2plus1d_parts
from movinet_edge.models.r2plus1d_table import VARIANTS as R2PLUS1DS
from movinet_edge.models.r2plus1d_table import R2plus1dArch, r2plus1d_arch
from movinet_edge.models.slowfast import SlowFast
from movinet_edge.models.slowfast_deploy import clip_part, step_parts
from movinet_edge.models.slowfast_table import CAUSAL, SlowFastArch, slowfast_arch
from movinet_edge.models.slowfast_table import VARIANTS as SLOWFASTS
from movinet_edge.models.tsm import Tsm
from movinet_edge.models.tsm_deploy import tsm_parts
from movinet_edge.models.tsm_table import VARIANTS as TSMS
from movinet_edge.models.tsm_table import TsmArch, tsm_arch
from movinet_edge.streaming.deploy import Part
from movinet_edge.streaming.instrument import Instrument
from movinet_edge.streaming.spec import describe, module_macs


@dataclass(frozen=True)
class Family:
    """One family of models.

    `parts` are the graphs of a model in deploy form for frames of a size (height, width): those of
    a stream (`frames` 1) or of a clip of so many. `split` are those of a stream whose classifier
    runs at every so many frames only; None: it has no such. `simulate` puts int8 into a model.
    """

    arch: type[ModelArch]
    build: Callable[[Any], VideoModel]
    parts: Callable[[Any, tuple[int, int], int], list[Part]]
    simulate: Callable[[Any], Instrument]
    split: Callable[[Any, tuple[int, int], int], list[Part]] | None = None


def _movinet_parts(model: MoViNet, size: tuple[int, int], frames: int) -> list[Part]:
    states = describe(model, size).states if frames == 1 else ()
    macs = describe(model, size, frames).macs
    return [Part("step", partial(DeployMoViNet, model, size), states, macs)]


def _movinet_split(model: MoViNet, size: tuple[int, int], every: int) -> list[Part]:
    return split_parts(model, size, describe(model, size).states, module_macs(model, size), every)


def _slowfast_parts(model: SlowFast, size: tuple[int, int], frames: int) -> list[Part]:
    return step_parts(model, size) if frames == 1 else clip_part(model, size, frames)


def _arnet_parts(model: ArNet, size: tuple[int, int], frames: int) -> list[Part]:
    if frames > 1:
        raise BadInput(f"{model.arch.name} streams; take --form fresh")
    return arnet_parts(model, size)


def _localizer_parts(model: Localizer, size: tuple[int, int], frames: int) -> list[Part]:
    raise BadInput(f"{model.arch.name} finds segments in whole videos; it cannot be exported yet")


def _not_simulated(model: VideoModel) -> Instrument:
    raise BadInput(
        f"int8 is not simulated in {model.arch.name}; export it with --precision int8 as it is"
    )


FAMILIES: dict[str, Family] = {
    "movinet": Family(MoViNetArch, MoViNet, _movinet_parts, movinet_quant.attach, _movinet_split),
    "slowfast": Family(SlowFastArch, SlowFast, _slowfast_parts, slowfast_quant.attach),
    "arnet": Family(ArNetArch, ArNet, _arnet_parts, _not_simulated),
    "tsm": Family(TsmArch, Tsm, tsm_parts, _not_simulated),
    "r2plus1d": Family(R2plus1dArch, R2plus1d, r2plus1d_parts, _not_simulated),
    "localizer": Family(LocalizerArch, Localizer, _localizer_parts, _not_simulated),
}

MODELS: dict[str, ModelArch] = {
    arch.name: arch
    for arch in (
        *(
            published_arch(variant, causal)  # type: ignore[arg-type]
            for variant in VARIANTS
            for causal in (True, False)
        ),
        *(slowfast_arch(label) for label in SLOWFASTS),
        *(slowfast_arch(label, causal=True) for label in CAUSAL),
        *(arnet_arch(label) for label in ARNETS),
        *(tsm_arch(label, causal=causal) for label in TSMS for causal in (False, True)),
        *(r2plus1d_arch(label) for label in R2PLUS1DS),
    )
}

# To train and compare with.
BASELINES: dict[str, ModelArch] = {
    arch.name: arch for label in ARNETS for arch in arnet_arch(label).baselines()
}

# Of localizers: what takes the features of snippets, whoever extracted them.
HEADS: dict[str, LocalizerArch] = {arch.name: arch for arch in published_heads()}


def named_arch(name: str) -> ModelArch:
    """The architecture called `name`: ``movinet-a0-stream``, or ``a0-stream`` for short.

    Raises:
        BadInput: there is none of that name.
    """
    if not is_model(name):
        raise BadInput(f"unknown model {name!r}; movinet-edge models lists them all")
    return MODELS.get(name) or BASELINES.get(name) or MODELS[f"movinet-{name}"]


def is_model(name: str) -> bool:
    """Whether an architecture is called so, in full or for short."""
    return name in MODELS or name in BASELINES or f"movinet-{name}" in MODELS


def arch_from_record(record: dict[str, Any]) -> ModelArch:
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


def build(arch: ModelArch) -> VideoModel:
    """A fresh model of an architecture, in evaluation mode."""
    return FAMILIES[arch.family].build(arch).eval()


def deploy_parts(
    model: VideoModel, frame_size: tuple[int, int], frames: int = 1, head_every: int = 1
) -> list[Part]:
    """The graphs of the model's stream, or of a clip of `frames` frames.

    `head_every`: of a stream whose classifier runs at every so many frames, as a graph of its own.
    """
    family = FAMILIES[model.arch.family]
    if head_every == 1:
        return family.parts(model, frame_size, frames)
    assert family.split is not None
    return family.split(model, frame_size, head_every)


def snippet_part(model: VideoModel, frame_size: tuple[int, int], frames: int = 1) -> Part:
    """The graph of an encoder that gives `FEATURES` for a head, [1, features].

    Of a stream the vector of what it saw since it began; of a clip of `frames` frames its own.

    Raises:
        BadInput: the model is no encoder.
    """
    if not isinstance(model, Encoder):
        encoders = ", ".join(name for name, arch in MODELS.items() if isinstance(arch, EncoderArch))
        raise BadInput(f"{model.arch.name} gives no vectors of snippets; take one of {encoders}")
    (part,) = deploy_parts(model, frame_size, frames)
    return encoder_part(part, module_macs(model, frame_size, frames))


def simulated(model: VideoModel) -> Instrument:
    """Quantisers of simulated int8 in a model, all of them off; see `Instrument`.

    Raises:
        BadInput: it has parts that static int8 lacks.
        ValueError: it has quantisers already.
    """
    return FAMILIES[model.arch.family].simulate(model)


def default_preprocessing(arch: ModelArch) -> Preprocessing:
    """Square centre crop at the architecture's resolution and frame rate."""
    side, rescale = arch.resolution, getattr(arch, "rescale", None)
    return Preprocessing(height=side, width=side, frame_rate=arch.frame_rate, rescale=rescale)


def seeded_model(arch: ModelArch, seed: int = 0) -> VideoModel:
    """Untrained weights that exercise every part: for demos and tests, not for answers.

    ReZero scales, initially 0, would switch all blocks off (as would the zeros that scale
    SlowFast's residuals) and fresh batch norm would let activations vanish; so the scales are set
    and the statistics taken from moving noise.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FAMILIES[arch.family].build(arch)
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        blocks = sum(1 for m in model.modules() if isinstance(m, Block))
        for name, parameter in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf == "scale":
                # Deeper models take less per block, or noise would grow beyond what float32
                # computes the same way twice.
                share = min(1.0, 15 / blocks)
                nn.init.uniform_(parameter, 0.4 * share, 0.9 * share)
            elif "classify.weight" in name:
                nn.init.normal_(parameter, std=0.05)
            elif name.endswith("policy.act.weight"):
                nn.init.normal_(parameter, std=2.0)  # so that decisions differ, and clearly
            elif leaf == "bias" and ".se." in name:
                nn.init.normal_(parameter, std=0.5)
            elif name.endswith(".c.norm.weight"):
                nn.init.uniform_(parameter, 0.2, 0.6)
        for norm in norms:
            norm.momentum = None  # a plain average over the batches seen
        # A localizer's norms are its encoder's.
        sees = model.encoder if isinstance(model, Localizer) else model
        if sees is not None:
            _show_noise(sees, seed)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def _show_noise(model: VideoModel, seed: int) -> None:
    """Two clips of moving noise, in training mode."""
    side = min(model.arch.resolution, 128)
    frames = 6 if model.arch.family == "movinet" else model.arch.clip_frames
    rng = np.random.default_rng(seed)
    for _ in range(2):
        coarse = torch.from_numpy(rng.random((1, 3, 6, 8, 8), np.float32))
        clip = nn.functional.interpolate(coarse, (frames, side, side), mode="trilinear")
        with torch.no_grad():
            model.train()(clip.transpose(1, 2))


def weights_sha256(model: nn.Module) -> str:
    """A hash of all weights by name, independent of the file they came from."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(json.dumps([name, list(value.shape)]).encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
