"""Checkpoints of the public G-TAD repository (frostinassiky/gtad, all its branches).

Its names are ``backbone1`` (a convolution and a graph convolution), ``regu_s`` and ``regu_e``
(starts and ends), ``backbone2`` (a graph convolution) and ``localization``. What an anchor has
sampled is in the order channel, bin, the features' bins before the context's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from movinet_edge.checkpoints.infer import Weights
from movinet_edge.errors import BadInput
from movinet_edge.models.gtad_table import CHANNELS, STEM_GROUPS, VARIANTS, GTadArch, gtad_arch
from movinet_edge.models.localizer_table import LocalizerArch, localizer_arch

STEM, ALIGN = "backbone1.0.", "localization.0."
PLAIN = {
    STEM: "stem.",
    "regu_s.1.": "start.answer.",
    "regu_e.1.": "end.answer.",
    "localization.2.": "localize.narrow.",
    "localization.4.": "localize.first.",
    "localization.6.": "localize.second.",
    "localization.8.": "localize.answer.",
}
GRAPHS = {
    "backbone1.2.": "base.",
    "regu_s.0.": "start.graph.",
    "regu_e.0.": "end.graph.",
    "backbone2.0.": "graph.",
}
# Layers inside a graph convolution; the first semantic one is cut in two.
LAYERS = {
    **{f"tconvs.{k}.": f"temporal.{k}." for k in (0, 2, 4)},
    **{f"sconvs.{k}.": f"semantic.{k - 1}." for k in (2, 4)},
}
PAIRS = "sconvs.0."
SETTABLE = ("bins", "context_bins", "durations", "snippets")


def is_gtad(weights: Mapping[str, object]) -> bool:
    """Whether names are the public repository's."""
    return any(key.startswith(("regu_s.", "regu_e.")) for key in weights)


def is_localizer(weights: Mapping[str, object]) -> bool:
    """Whether names are ours."""
    return "head.align.features" in weights


def localizer_weights(
    weights: Weights, source: object, changes: Mapping[str, str]
) -> tuple[Weights, dict[str, Any]]:
    """A public head's weights in our naming, and the record of the localizer that it is.

    Weights tell neither how many snippets a video has nor which bins are the context's; those of
    the data set whose sizes agree are taken. `changes` may set what is in `SETTABLE`.

    Raises:
        BadInput: no G-TAD, or a change that is not one.
    """
    arch = infer_gtad(weights, source, changes)
    named = {f"head.{name}": value for name, value in from_gtad(weights, arch).items()}
    return named, localizer_arch(arch).model_dump()


def infer_localizer(
    weights: Weights, source: object, known: Mapping[str, Any], changes: Mapping[str, str]
) -> LocalizerArch:
    """The architecture of a localizer whose record is `known`; `changes` are its head's.

    Raises:
        BadInput: there is no record, or a change is not one.
    """
    _refuse_other(changes)
    if not known:
        raise BadInput(
            f"{source} lacks the record of its localizer; import the file that it was made from"
        )
    head = _checked(dict(known["head"]) | dict(changes))
    return LocalizerArch.model_validate(dict(known) | {"head": head})


def infer_gtad(weights: Weights, source: object, changes: Mapping[str, str]) -> GTadArch:
    """The architecture of a public checkpoint's weights.

    Raises:
        BadInput: shapes are of no G-TAD, or a change is not one.
    """
    _refuse_other(changes)
    for name in (f"{STEM}weight", f"{ALIGN}weight"):
        if name not in weights:
            raise BadInput(f"{source} does not hold a G-TAD: it lacks {name}")
    stem, align = weights[f"{STEM}weight"], weights[f"{ALIGN}weight"]
    if stem.ndim != 3 or align.ndim != 4 or align.shape[1] % CHANNELS:
        raise BadInput(
            f"{source} does not hold a G-TAD: {STEM}weight is {list(stem.shape)}, "
            f"{ALIGN}weight {list(align.shape)}"
        )
    found = {
        "features": stem.shape[1] * STEM_GROUPS,
        "kernel": weights.get("localization.4.weight", align).shape[-1],
    }
    total = align.shape[1] // CHANNELS
    arch = _checked(_published(total, found) | found | dict(changes))
    if arch.bins + arch.context_bins != total:
        raise BadInput(
            f"{source} samples {total} bins, not {arch.bins} + {arch.context_bins}; say which are "
            "the context's with --set bins=N --set context_bins=M"
        )
    return arch


def _refuse_other(changes: Mapping[str, str]) -> None:
    for field in sorted(set(changes) - set(SETTABLE)):
        raise BadInput(f"--set {field}: no such option; choose from {', '.join(SETTABLE)}")


def _checked(record: Mapping[str, Any]) -> GTadArch:
    try:
        return GTadArch.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"--set {place + ': ' if place else ''}{message}") from None


def _published(bins: int, found: Mapping[str, int]) -> dict[str, object]:
    """The record of the published head that has these sizes, or most of them."""
    fits = [
        arch
        for arch in map(gtad_arch, VARIANTS)
        if (arch.bins + arch.context_bins, arch.kernel) == (bins, found["kernel"])
    ]
    fits.sort(key=lambda arch: arch.features != found["features"])
    return fits[0].model_dump() if fits else {}


def from_gtad(weights: Weights, arch: GTadArch) -> Weights:
    """The public repository's names and shapes -> ours; what has none keeps its own."""
    converted: Weights = {}
    for key, value in weights.items():
        module, _, leaf = key.rpartition(".")
        if key == f"{ALIGN}weight":
            # [outputs, channels * bins, 1, 1] -> [channels, bins, outputs]
            apart = value.reshape(value.shape[0], CHANNELS, -1).permute(1, 2, 0)
            sizes = [arch.bins, arch.context_bins]
            parts = apart.split(sizes, 1)
            converted |= {"align.features": parts[0], "align.context": parts[1]}
        elif key == f"{ALIGN}bias":
            converted["align.bias"] = value
        elif f"{module}." in PLAIN:
            name = PLAIN[f"{module}."]
            dense = name in ("localize.narrow.", "localize.answer.")
            converted[name + leaf] = value.flatten(1) if dense and leaf == "weight" else value
        else:
            converted |= _graph_layer(key, value)
    return converted


def _graph_layer(key: str, value: Tensor) -> Weights:
    for theirs, ours in GRAPHS.items():
        rest = key.removeprefix(theirs)
        if rest == key:
            continue
        if rest == f"{PAIRS}weight" and value.ndim == 4:
            # over (neighbour, place), one kernel each
            near, own = value.flatten(1)[..., None].chunk(2, 1)
            return {f"{ours}near.weight": near, f"{ours}own.weight": own}
        if rest == f"{PAIRS}bias":
            return {f"{ours}own.bias": value}
        for layer, name in LAYERS.items():
            if rest.startswith(layer):
                return {ours + name + rest.removeprefix(layer): value}
    return {key: value}
