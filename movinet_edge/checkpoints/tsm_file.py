"""TSM weights of mit-han-lab/temporal-shift-module, and plain ResNets that become a TSM.

There a ResNet with torchvision's names is called ``base_model``, the first convolution of a block
that shifts ``conv1.net``, and the classifier ``new_fc`` (``base_model.fc`` without dropout). Of a
plain ResNet, such as ImageNet's, all but the shifts is there; its classifier is taken over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError

from movinet_edge.checkpoints.backbone_file import find_backbone
from movinet_edge.checkpoints.infer import Weights
from movinet_edge.errors import BadInput
from movinet_edge.models.backbone import BackboneNet
from movinet_edge.models.backbone_table import Backbone
from movinet_edge.models.tsm_table import RESNETS, VARIANTS, TsmArch, tsm_arch

OWN = "net.stem.conv.weight"
OUTER = "base_model."
_SHIFTED = re.compile(r"(?:base_model\.)?(layer\d\.\d+)\.conv1\.net\.weight")
_PLAIN = ("conv1.weight", "layer1.0.conv1.weight")
_CLASSIFIERS = ("new_fc.", "fc.")
SETTABLE = ("causal", "dropout", "fold", "frames", "multi_label", "rate")


def is_tsm(weights: Mapping[str, object]) -> bool:
    """Whether names are those of a TSM, in ours."""
    return OWN in weights


def is_public_tsm(weights: Mapping[str, object]) -> bool:
    """Whether names are the public repository's, or those of a plain ResNet."""
    return any(map(_SHIFTED.fullmatch, weights)) or all(key in weights for key in _PLAIN)


def from_tsm(weights: Weights, source: object) -> Weights:
    """The public names, or a plain ResNet's -> ours.

    Raises:
        BadInput: no ResNet of a known kind, or one that shifts at other places than published.
    """
    shifted = {match[1] for match in map(_SHIFTED.fullmatch, weights) if match}
    plain: Weights = {}
    converted: Weights = {}
    for key, value in weights.items():
        name = key.removeprefix(OUTER).replace(".conv1.net.", ".conv1.")
        classifier = next((c for c in _CLASSIFIERS if name.startswith(c)), None)
        if classifier is not None:
            converted[f"head.classify.{name.removeprefix(classifier)}"] = value
        else:
            plain[name] = value
    found, backbone = find_backbone(plain, 224, source, RESNETS)
    if shifted and shifted != (wanted := _places(backbone.name)):
        other = min(shifted ^ wanted)
        raise BadInput(
            f"{source} holds a {backbone.name} that shifts {len(shifted)} of its blocks, not the "
            f"{len(wanted)} of the published TSM ({other} differs); it was trained otherwise"
        )
    return converted | {f"net.{key}": value for key, value in found.items()}


def infer_tsm(
    weights: Weights, source: object, known: Mapping[str, Any], changes: Mapping[str, str]
) -> TsmArch:
    """The architecture of `weights` (in our naming); see `infer_arch`.

    Weights do not tell how many frames a snippet has, nor which way it shifts: `changes` may.

    Raises:
        BadInput: a weight is missing, no known ResNet has these shapes, or a change is not one.
    """
    for field in sorted(set(changes) - set(SETTABLE)):
        raise BadInput(f"--set {field}: no such option; choose from {', '.join(SETTABLE)}")
    classifier = weights.get("head.classify.weight")
    if classifier is None:
        raise BadInput(f"{source} holds a TSM without a classifier; add new_fc.weight and bias")
    backbone = _backbone(weights, source)
    label = next(name for name, fields in VARIANTS.items() if fields["backbone"] == backbone)
    record = tsm_arch(label).model_dump() | dict(known) | {"classes": classifier.shape[0]}
    try:
        return TsmArch.model_validate(record | {"backbone": backbone} | dict(changes))
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"--set {first['loc'][0]}: {first['msg']}") from None


def _places(backbone: str) -> set[str]:
    """Which blocks shift, by their public names."""
    places = TsmArch(backbone=backbone).shifted()
    return {f"layer{stage + 1}.{index}" for stage, index, _ in places}


def _backbone(weights: Weights, source: object) -> str:
    shapes = _shapes(
        {k.removeprefix("net."): v for k, v in weights.items() if k.startswith("net.")}
    )
    for name in RESNETS:
        with torch.device("meta"):
            if shapes == _shapes(BackboneNet(Backbone(name=name)).state_dict()):
                return name
    raise BadInput(f"{source} does not hold a TSM on any of {', '.join(RESNETS)}")


def _shapes(weights: Weights) -> dict[str, torch.Size]:
    """Of all but the counters of batch norms, which some formats leave out."""
    return {k: v.shape for k, v in weights.items() if not k.endswith("num_batches_tracked")}
