"""R(2+1)D weights with torchvision's names (r2plus1d_18)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from movinet_edge.checkpoints.infer import Weights
from movinet_edge.errors import BadInput
from movinet_edge.models.r2plus1d_table import VARIANTS, R2plus1dArch, r2plus1d_arch

OWN = "net.stem.spatial.weight"
SIGN = ("stem.3.weight", "layer1.0.conv1.0.0.weight")
SETTABLE = ("dropout", "frames", "multi_label", "rate")
# Of a factorised convolution with its batch norms, in torchvision's and in our names.
_STEM = {"0": "spatial", "1": "spatial.norm", "3": "temporal", "4": "temporal.norm"}
_INNER = {"0.0": "spatial", "0.1": "spatial.norm", "0.3": "temporal", "1": "temporal.norm"}
_SHORTCUT = {"0": "shortcut", "1": "shortcut.norm"}
_BLOCK = re.compile(r"layer(\d)\.(\d+)\.(conv1|conv2|downsample)\.([\d.]+)\.(\w+)")


def is_r2plus1d(weights: Mapping[str, object]) -> bool:
    """Whether names are those of an R(2+1)D, in ours."""
    return OWN in weights


def is_torchvision_r2plus1d(weights: Mapping[str, object]) -> bool:
    """Whether names are torchvision's."""
    return all(key in weights for key in SIGN)


def from_r2plus1d(weights: Weights) -> Weights:
    """torchvision's names -> ours. What is unknown stays, to be reported as left over."""
    return {_own(key) or key: value for key, value in weights.items()}


def infer_r2plus1d(
    weights: Weights, source: object, known: Mapping[str, Any], changes: Mapping[str, str]
) -> R2plus1dArch:
    """The architecture of `weights` (in our naming); see `infer_arch`.

    Raises:
        BadInput: a weight is missing, or a change is not one.
    """
    for field in sorted(set(changes) - set(SETTABLE)):
        raise BadInput(f"--set {field}: no such option; choose from {', '.join(SETTABLE)}")
    try:
        fields: dict[str, Any] = {
            "width": weights["net.stem.temporal.weight"].shape[0],
            "blocks": tuple(_count(weights, stage) for stage in range(4)),
            "classes": weights["head.classify.weight"].shape[0],
        }
    except KeyError as error:
        raise BadInput(f"{source} does not hold an R(2+1)D: it lacks {error.args[0]}") from None
    label = next((n for n in VARIANTS if _agrees(r2plus1d_arch(n), fields)), None)
    record = r2plus1d_arch(label or "18").model_dump() | {"label": label or "custom"}
    try:
        return R2plus1dArch.model_validate(record | dict(known) | fields | dict(changes))
    except ValidationError as error:
        first = error.errors()[0]
        named = f"--set {first['loc'][0]}" if first["loc"][0] in changes else str(source)
        raise BadInput(f"{named}: {first['msg']}") from None


def _agrees(arch: R2plus1dArch, fields: Mapping[str, Any]) -> bool:
    return (arch.width, arch.blocks) == (fields["width"], fields["blocks"])


def _count(weights: Weights, stage: int) -> int:
    """Blocks of a stage.

    Raises:
        KeyError: it has none.
    """
    count = 0
    while (key := f"net.stages.{stage}.{count}.a.spatial.weight") in weights:
        count += 1
    if not count:
        raise KeyError(key)
    return count


def _own(key: str) -> str | None:
    """Our name for one of torchvision's."""
    head, _, rest = key.partition(".")
    if head == "fc":
        return f"head.classify.{rest}"
    if head == "stem":
        number, _, leaf = rest.partition(".")
        return f"net.stem.{_STEM[number]}.{leaf}" if number in _STEM else None
    match = _BLOCK.fullmatch(key)
    if match is None:
        return None
    stage, index, part, inner, leaf = match.groups()
    table = _SHORTCUT if part == "downsample" else _INNER
    if inner not in table:
        return None
    place = table[inner] if part == "downsample" else f"{'ab'[part == 'conv2']}.{table[inner]}"
    return f"net.stages.{int(stage) - 1}.{index}.{place}.{leaf}"
