"""Checkpoints of the public AR-Net repository (mengyuest/AR-Net), and of its single networks.

Its names are ``lite_backbone`` and ``rnn`` (the policy), ``linear`` (actions), ``lite_fc`` (the
policy's classes), ``base_model_list`` and ``new_fc_list`` (backbones and their classes), or for one
network alone ``base_model`` and ``new_fc``. Backbones are in torchvision's naming, MobileNetV2 in
either of its two layouts, or in EfficientNet-PyTorch's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from movinet_edge.checkpoints.backbone_file import find_backbone
from movinet_edge.checkpoints.infer import Weights
from movinet_edge.errors import BadInput
from movinet_edge.models.arnet_table import VARIANTS, ArNetArch, arnet_arch

SIDES = (224, 168, 112)
POLICY_SIDE = 84
SKIPS = (1, 2, 4)
OWN = ("policy.net.", "backbones.0.net.")
PUBLIC = ("lite_backbone.", "base_model_list.", "base_model.")
DENSE = {
    "rnn.weight_ih": "policy.cell.input.weight",
    "rnn.bias_ih": "policy.cell.input.bias",
    "rnn.weight_hh": "policy.cell.recurrent.weight",
    "rnn.bias_hh": "policy.cell.recurrent.bias",
    "linear.weight": "policy.act.weight",
    "linear.bias": "policy.act.bias",
    "lite_fc.weight": "policy.classify.weight",
    "lite_fc.bias": "policy.classify.bias",
}
SETTABLE = (
    *("decides", "dropout", "frames", "hold", "policy_side", "rate", "rescale"),
    *("resolution", "sides", "skips"),
)


def is_public_arnet(weights: Mapping[str, object]) -> bool:
    """Whether names are the public repository's."""
    return any(key.startswith(PUBLIC) for key in weights)


def is_arnet(weights: Mapping[str, object]) -> bool:
    """Whether names are those of an AR-Net, in ours."""
    return any(key.startswith(OWN) for key in weights)


def from_arnet(weights: Weights, source: object) -> tuple[Weights, dict[str, Any]]:
    """The public repository's names -> ours, and the fields of the architecture that they tell.

    A network with an LSTM but without backbones is its LSTM baseline: its actions are left out,
    for all that it does is look at every frame.

    Raises:
        BadInput: a part is missing, or of no known kind.
    """
    converted: Weights = {}
    fields: dict[str, Any] = {"policy": None, "lite": False, "skips": (), "hold": "hidden"}
    single = any(key.startswith("base_model.") for key in weights)
    backbones = []
    for k in range(1 if single else _count(weights)):
        inner = "base_model." if single else f"base_model_list.{k}."
        side = SIDES[min(k, len(SIDES) - 1)]
        found, backbone = find_backbone(_below(weights, inner), side, f"{inner[:-1]} of {source}")
        backbones.append(backbone.model_dump())
        classifier = "new_fc." if single else f"new_fc_list.{k}."
        converted |= _named(found, f"backbones.{k}.net.")
        converted |= _named(_below(weights, classifier), f"backbones.{k}.classify.")
    fields["backbones"] = tuple(backbones)
    if policy := _below(weights, "lite_backbone."):
        side = POLICY_SIDE if backbones else SIDES[0]
        found, backbone = find_backbone(policy, side, f"lite_backbone of {source}")
        converted |= _named(found, "policy.net.")
        fields |= {"policy": backbone.model_dump(), "lite": True}
        dense = {ours: weights[theirs] for theirs, ours in DENSE.items() if theirs in weights}
        if "policy.cell.recurrent.weight" not in dense:
            raise BadInput(f"{source} holds an AR-Net without an LSTM, which is not supported")
        if not backbones:
            dense = {k: v for k, v in dense.items() if ".act." not in k}
        converted |= dense
        fields["hidden"] = dense["policy.cell.recurrent.weight"].shape[1]
    known = (*PUBLIC, "new_fc", *DENSE)
    converted |= {key: value for key, value in weights.items() if not key.startswith(known)}
    return converted, fields


def infer_arnet(
    weights: Weights, source: object, known: Mapping[str, Any], changes: Mapping[str, str]
) -> ArNetArch:
    """The architecture of `weights` (in our naming); `known` are the fields that the file tells.

    Weights do not tell at what sides the networks run, nor how far skips go: `changes` may.

    Raises:
        BadInput: a weight is missing, or a change is not one.
    """
    for field in sorted(set(changes) - set(SETTABLE)):
        raise BadInput(f"--set {field}: no such option; choose from {', '.join(SETTABLE)}")
    record = {"label": "custom"} | dict(known) | {"classes": _classes(weights, source)}
    act = weights.get("policy.act.weight")
    if "decides" not in known:
        record["decides"] = "all" if act is None else "policy"
    if act is not None and not record["skips"]:
        skips = act.shape[0] - len(record["backbones"]) - 1
        if skips == len(SKIPS):
            record["skips"] = SKIPS
        elif skips and "skips" not in changes:
            raise BadInput(f"{source} has {skips} skips; say how far they go with --set skips=1,2")
    return _changed(record, changes)


def _changed(record: dict[str, Any], changes: Mapping[str, str]) -> ArNetArch:
    told: dict[str, Any] = dict(changes)
    try:
        if "skips" in told:
            told["skips"] = _numbers(told["skips"])
        sides = _numbers(told.pop("sides")) if "sides" in told else None
        if sides is not None:
            rows = record["backbones"]
            if len(sides) != len(rows):
                raise BadInput(f"--set sides={changes['sides']}: there are {len(rows)} backbones")
            record["backbones"] = tuple(
                {**row, "side": side} for row, side in zip(rows, sides, strict=True)
            )
        if "policy_side" in told:
            record["policy"] = {**(record["policy"] or {}), "side": told.pop("policy_side")}
        arch = ArNetArch.model_validate(record | told)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"--set {place + ': ' if place else ''}{message}") from None
    return arch.model_copy(update={"label": _label(arch)})


def _label(arch: ArNetArch) -> str:
    """The variant that has the same actions."""
    names = [action.name for action in arch.actions]
    for label in VARIANTS:
        if [action.name for action in arnet_arch(label).actions] == names:
            return label
    return "custom"


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise BadInput(f"{text!r} are no whole numbers; write them as 1,2,4") from None


def _classes(weights: Weights, source: object) -> int:
    for key, value in weights.items():
        if key.endswith("classify.weight"):
            return value.shape[0]
    raise BadInput(f"{source} holds an AR-Net without any classifier; retrain it with one")


def _count(weights: Weights) -> int:
    places = [key.split(".")[1] for key in weights if key.startswith("base_model_list.")]
    return len(set(places))


def _below(weights: Weights, prefix: str) -> Weights:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _named(weights: Weights, prefix: str) -> Weights:
    return {prefix + key: value for key, value in weights.items()}
