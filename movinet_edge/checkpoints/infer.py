"""Which MoViNet a set of weights belongs to, from the shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from movinet_edge.errors import BadInput
from movinet_edge.models.movinet_table import VARIANTS, Layer, MoViNetArch, published_arch

Weights = dict[str, Tensor]

# One row per layer: (name, expand, out, temporal kernel, spatial kernel).
LayerShape = tuple[str, int, int, int, int]


def infer_arch(
    weights: Weights, source: object, known: Mapping[str, Any], changes: Mapping[str, str]
) -> MoViNetArch:
    """The architecture whose tables agree with `weights` (in this project's naming).

    Args:
        known: fields that the format itself tells (such as the gate's spelling).
        changes: fields that the user sets; they win over everything inferred.

    Raises:
        BadInput: no MoViNet has these shapes, or a change is not one.
    """
    try:
        layers, fields = _layers(weights), _options(weights)
        stem, head = weights["stem.conv.weight"].shape[0], weights["head.hidden.weight"].shape[1]
    except KeyError as error:
        raise BadInput(f"{source} does not hold a MoViNet: it lacks {error.args[0]}") from None
    except IndexError:
        raise BadInput(f"{source} does not hold a MoViNet: its kernels lack dimensions") from None
    tables = {n: ([_row(x) for x in t.layers()], t.stem, t.head) for n, t in VARIANTS.items()}
    name = next((n for n, table in tables.items() if table == (layers, stem, head)), None)
    if name is None:
        raise BadInput(f"{source} does not hold a MoViNet A0-A5: {_nearest(layers)}")
    causal = fields.pop("causal")
    arch = published_arch(name, causal)  # type: ignore[arg-type]
    record = arch.model_dump() | fields | dict(known)
    # The rest is what the weights' shapes say, and the frame size belongs to the contract.
    settable = sorted(set(record) - {"family", "variant", "classes", "resolution"})
    for field in set(changes) - set(settable):
        raise BadInput(f"--set {field}: no such option; choose from {', '.join(settable)}")
    try:
        return MoViNetArch.model_validate(record | dict(changes))
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"--set {first['loc'][0]}: {first['msg']}") from None


def _options(weights: Weights) -> dict[str, Any]:
    reduce = weights.get("b0.l0.se.reduce.weight")
    expand = weights["b0.l0.expand.conv.weight"].shape[0]
    factored = any(".temporal." in key for key in weights)
    both = reduce is not None and reduce.shape[1] == 2 * expand
    causal = factored or both
    fields: dict[str, Any] = {
        "causal": causal,
        "conv": "2plus1d" if factored else "3d",
        "squeeze_excite": "none" if reduce is None else "2plus3d" if both else "3d",
        "positional_encoding": "b0.l0.se.position.scale" in weights,
        "rezero": "b0.l0.scale" in weights,
        "classes": weights["head.classify.weight"].shape[0],
        "hidden": weights["head.hidden.weight"].shape[0],
    }
    return fields


def _layers(weights: Weights) -> list[LayerShape]:
    found = [re.fullmatch(r"b(\d+)\.l(\d+)\.expand\.conv\.weight", key) for key in weights]
    rows = []
    for stage, index in sorted((int(m[1]), int(m[2])) for m in found if m):
        name = f"b{stage}.l{index}"
        spatial = weights[f"{name}.spatial.conv.weight"].shape
        temporal = weights.get(f"{name}.temporal.conv.weight")
        time = spatial[2] if temporal is None else temporal.shape[2]
        out = weights[f"{name}.project.conv.weight"].shape[0]
        rows.append((name, spatial[0], out, time, spatial[-1]))
    return rows


def _row(layer: Layer) -> LayerShape:
    return layer.name, layer.expand, layer.outputs, layer.time, layer.space


def _nearest(layers: list[LayerShape]) -> str:
    """The variant that agrees longest, and the first layer where it does not."""
    best, place = "a0", 0
    for name, table in VARIANTS.items():
        expected = [_row(layer) for layer in table.layers()]
        same = [a == b for a, b in zip(layers, expected, strict=False)]
        agree = same.index(False) if False in same else len(same)
        if agree > place:
            best, place = name, agree
    expected = [_row(layer) for layer in VARIANTS[best].layers()]
    if place < len(layers) and place < len(expected):
        got, want = layers[place], expected[place]
        return (
            f"{got[0]} has {got[1]} -> {got[2]} channels, kernel {got[3]}x{got[4]}, "
            f"{best} would have {want[1]} -> {want[2]}, {want[3]}x{want[4]}"
        )
    return f"it has {len(layers)} layers, {best} has {len(expected)}"
