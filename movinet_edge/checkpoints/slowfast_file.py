"""SlowFast weights of other projects: PySlowFast, pytorchvideo and the first caffe2 models.

Names are read into pathway, stage, block and part, and written in this project's naming. One
pathway alone is called the first in those files; its stem's kernel tells whether it is the Fast
one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from movinet_edge.checkpoints.infer import Weights
from movinet_edge.errors import BadInput
from movinet_edge.models.slowfast_table import (
    STAGES,
    VARIANTS,
    Pathway,
    SlowFastArch,
    slowfast_arch,
)
from movinet_edge.models.slowfast_timing import STEM_KERNEL

STEMS: dict[Pathway, str] = {p: f"{p}.stem.conv.weight" for p in STEM_KERNEL}
# In front of every name, where a model sits inside another one.
_OUTER = re.compile(r"(?:module\.|model\.)+")
# Of training, in caffe2's files.
_BOOKKEEPING = re.compile(r".*_momentum|lr|model_iter|.*\.num_batches_tracked")


@dataclass(frozen=True)
class Naming:
    """How one project spells the parts of a SlowFast.

    The groups of its patterns are `p`athway, `s`tage, `i`ndex of the block, `c`onvolution, `kind`
    (of batch norm if it contains ``bn`` or ``norm``) and `leaf`. `stage` and `lateral` are added
    to its stage numbers to have ours.
    """

    sign: re.Pattern[str]  # a name that only this naming has
    stem: re.Pattern[str]
    lateral: re.Pattern[str]
    block: re.Pattern[str]
    non_local: re.Pattern[str]
    head: re.Pattern[str]
    stage: int = 0
    lateral_stage: int = -1

    def own(self, key: str) -> str | None:
        """A name in this project's naming; None: it is no part of a SlowFast."""
        for place, pattern in (
            ("{p}.stem.conv{norm}.{leaf}", self.stem),
            ("slow.laterals.{lateral}.conv{norm}.{leaf}", self.lateral),
            ("{p}.res{s}.blocks.{i}.{c}{norm}.{leaf}", self.block),
            ("{p}.res{s}.nonlocals.{i}{c}{norm}.{leaf}", self.non_local),
            ("head.classify.{leaf}", self.head),
        ):
            match = pattern.fullmatch(key)
            if match is not None:
                groups = match.groupdict()
                kind = groups.get("kind") or ""
                part = groups.get("c")
                if pattern is self.non_local:
                    part = f".{part}" if part else ""
                stage = int(groups.get("s") or 1)
                return place.format(
                    p="fast" if groups.get("p") in ("1", "t_") else "slow",
                    s=stage + self.stage,
                    lateral=stage + self.lateral_stage,
                    i=groups.get("i"),
                    c="shortcut" if part is None else part,
                    norm=".norm" if "bn" in kind or "norm" in kind else "",
                    leaf=_LEAVES.get(groups["leaf"], groups["leaf"]),
                )
        return None


# Of caffe2: w of convolutions; scale, bias, running mean and running variance of batch norm.
_LEAVES = {
    "w": "weight",
    "s": "weight",
    "b": "bias",
    "rm": "running_mean",
    "riv": "running_var",
}
_LEAF = r"\.(?P<leaf>\w+)"
_SHORT = r"_(?P<leaf>w|s|b|rm|riv)"
_PATH = r"(?:multipathway_blocks\.(?P<p>\d)\.)?"

PYSLOWFAST = Naming(
    sign=re.compile(r"s1\.pathway0_stem\.conv\.weight"),
    stem=re.compile(r"s1\.pathway(?P<p>\d)_stem\.(?P<kind>conv|bn)" + _LEAF),
    lateral=re.compile(r"s(?P<s>\d)_fuse\.(?P<kind>conv_f2s|bn)" + _LEAF),
    block=re.compile(
        r"s(?P<s>\d)\.pathway(?P<p>\d)_res(?P<i>\d+)\."
        r"branch(?:1|2\.(?P<c>[abc]))(?P<kind>_bn)?" + _LEAF
    ),
    non_local=re.compile(
        r"s(?P<s>\d)\.pathway(?P<p>\d)_nonlocal(?P<i>\d+)\."
        r"(?:conv_(?P<c>theta|phi|g|out)|(?P<kind>bn))" + _LEAF
    ),
    head=re.compile(r"head\.projection" + _LEAF),
)
PYTORCHVIDEO = Naming(
    sign=re.compile(rf"blocks\.1\.{_PATH}res_blocks\.0\.branch2\.conv_a\.weight"),
    stem=re.compile(rf"blocks\.0\.{_PATH}(?P<kind>conv|norm)" + _LEAF),
    lateral=re.compile(
        r"blocks\.(?P<s>\d)\.multipathway_fusion\.(?P<kind>conv_fast_to_slow|norm)" + _LEAF
    ),
    block=re.compile(
        rf"blocks\.(?P<s>\d)\.{_PATH}res_blocks\.(?P<i>\d+)\."
        r"(?:branch1_|branch2\.)(?P<kind>conv|norm)(?:_(?P<c>[abc]))?" + _LEAF
    ),
    non_local=re.compile(r"(?!)"),  # it has none
    head=re.compile(r"blocks\.[56]\.proj" + _LEAF),
    stage=1,
    lateral_stage=0,
)
CAFFE2 = Naming(
    sign=re.compile(r"res2_0_branch2a_w"),
    stem=re.compile(r"(?P<p>t_)?(?:res_)?conv1(?P<kind>_bn)?" + _SHORT),
    lateral=re.compile(
        r"t_(?:pool1|res(?P<s>\d)_\d+_branch2c_bn)_subsample(?P<kind>_bn)?" + _SHORT
    ),
    block=re.compile(
        r"(?P<p>t_)?res(?P<s>\d)_(?P<i>\d+)_branch(?:1|2(?P<c>[abc]))(?P<kind>_bn)?" + _SHORT
    ),
    non_local=re.compile(
        r"nonlocal_conv(?P<s>\d)_(?P<i>\d+)_(?:(?P<c>theta|phi|g|out)|(?P<kind>bn))" + _SHORT
    ),
    head=re.compile(r"pred" + _SHORT),
)
NAMINGS = (PYSLOWFAST, PYTORCHVIDEO, CAFFE2)


def is_slowfast(weights: Mapping[str, object]) -> bool:
    """Whether names are those of a SlowFast, or of one of its pathways, in any naming."""
    own = any(key in weights for key in STEMS.values())
    return own or _naming(weights) is not None


def from_slowfast(weights: Mapping[str, Tensor | NDArray[Any]]) -> Weights:
    """Any naming and its shapes -> ours. What is unknown stays, to be reported as left over."""
    tensors = {key: _tensor(value) for key, value in weights.items()}
    naming = _naming(tensors)
    if naming is None:
        return tensors
    converted: Weights = {}
    for key, value in tensors.items():
        inner = _OUTER.sub("", key, count=1) if _OUTER.match(key) else key
        name = naming.own(inner)
        if _BOOKKEEPING.fullmatch(inner):
            continue
        if name is None or name in converted:
            converted[key] = value
        else:
            converted[name] = _shaped(name, value)
    stem = converted.get(STEMS["slow"])
    single = STEMS["fast"] not in converted and stem is not None
    if single and stem is not None and stem.dim() == 5 and stem.shape[2] == STEM_KERNEL["fast"]:
        return {re.sub(r"^slow\.", "fast.", key): value for key, value in converted.items()}
    return converted


def swap_colours(weights: Weights) -> Weights:
    """Weights in our naming for RGB instead of BGR frames, or the other way round.

    Exact: all channels are normalised alike.
    """
    stems = STEMS.values()
    return {key: value.flip(1) if key in stems else value for key, value in weights.items()}


def infer_slowfast(
    weights: Weights, source: object, known: Mapping[str, Any], changes: Mapping[str, str]
) -> SlowFastArch:
    """The architecture of `weights` (in this project's naming); see `infer_arch`.

    Shapes do not tell how many frames there are, nor at what rate; that is taken from the nearest
    variant. The arguments are those of `infer_arch`.

    Raises:
        BadInput: no SlowFast has these shapes, they fit several, or a change is not one.
    """
    try:
        fields = _fields(weights)
    except KeyError as error:
        raise BadInput(f"{source} does not hold a SlowFast: it lacks {error.args[0]}") from None
    except IndexError:
        raise BadInput(f"{source} does not hold a SlowFast: its kernels lack dimensions") from None
    except ValueError as error:
        raise BadInput(f"{source} does not hold a SlowFast: {error}") from None
    settable = (
        *("alpha", "causal", "dropout", "frames", "fusion"),
        *("multi_label", "pool", "tau"),
    )
    for field in sorted(set(changes) - set(settable)):
        raise BadInput(f"--set {field}: no such option; choose from {', '.join(settable)}")
    told = dict(known) | dict(changes)
    if fields.get("fusion", "") is None:
        if "fusion" not in told:
            raise BadInput(
                f"{source} fits a SlowFast whose pathways do not meet and one that sums them; "
                "add --set fusion=none or --set fusion=ttoc-sum"
            )
        fields["fusion"] = told["fusion"]
        if told["fusion"] == "ttoc-sum":
            fields["alpha"] = fields["beta_inverse"]
    nearest = slowfast_arch(_nearest(fields))
    try:
        arch = SlowFastArch.model_validate(nearest.model_dump() | fields | told)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"--set {first['loc'][0]}: {first['msg']}") from None
    return arch.model_copy(update={"label": _label(arch)})


def _naming(weights: Mapping[str, object]) -> Naming | None:
    names = {_OUTER.sub("", key, count=1) if _OUTER.match(key) else key for key in weights}
    for naming in NAMINGS:
        stem = any(naming.stem.fullmatch(name) for name in names)
        if stem and any(naming.sign.fullmatch(name) for name in names):
            return naming
    return None


def _tensor(value: Tensor | NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value


def _shaped(name: str, value: Tensor) -> Tensor:
    """Dense layers and non-local blocks are convolutions of size 1 elsewhere, or the reverse."""
    shape = value.shape
    if name == "head.classify.weight" and value.dim() > 2:
        wanted = shape[:2]
    elif ".nonlocals." in name and value.dim() in (2, 5):
        wanted = torch.Size((*shape[:2], 1, 1))
    elif value.dim() == 4 and ".nonlocals." not in name:
        wanted = torch.Size((*shape[:2], 1, *shape[2:]))
    else:
        return value
    # Of another size it stays, to be reported as of the wrong shape.
    return value.reshape(wanted) if wanted.numel() == value.numel() else value


def _fields(weights: Weights) -> dict[str, Any]:
    """What shapes tell. `fusion` is None where they fit two.

    Raises:
        KeyError: a weight is missing. IndexError: one has too few dimensions.
        ValueError: shapes that no SlowFast has, in words.
    """
    pathways: tuple[Pathway, ...] = tuple(
        p for p in STEMS if any(key.startswith(f"{p}.") for key in weights)
    )
    if not pathways:
        raise KeyError(STEMS["slow"])
    stems = {p: weights[STEMS[p]].shape for p in pathways}
    for pathway, shape in stems.items():
        if shape[2] != STEM_KERNEL[pathway]:
            raise ValueError(f"{STEMS[pathway]} sees {shape[2]} frames, not {STEM_KERNEL[pathway]}")
    tables = {p: [_blocks(weights, p, stage) for stage in STAGES] for p in pathways}
    counts = {p: tuple(len(kernels) for kernels in table) for p, table in tables.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"its pathways have {counts['slow']} and {counts['fast']} blocks")
    fields: dict[str, Any] = {
        "pathways": pathways,
        "blocks": counts[pathways[0]],
        "classes": weights["head.classify.weight"].shape[0],
        "nonlocal_blocks": tuple(_nonlocals(weights, stage) for stage in STAGES),
    }
    for pathway, table in tables.items():
        fields[f"{pathway}_temporal"] = tuple(
            _leading(kernels, f"{pathway}.{stage}")
            for kernels, stage in zip(table, STAGES, strict=True)
        )
    fields |= _widths(weights, pathways)
    return fields | _fusion(weights, pathways)


def _blocks(weights: Weights, pathway: str, stage: str) -> list[int]:
    """The temporal kernels of a stage's blocks."""
    kernels: list[int] = []
    while (key := f"{pathway}.{stage}.blocks.{len(kernels)}.a.weight") in weights:
        kernels.append(weights[key].shape[2])
    if not kernels:
        raise KeyError(key)
    return kernels


def _leading(kernels: list[int], name: str) -> int:
    """How many blocks, all at the beginning, have a temporal kernel of 3."""
    count = kernels.count(3)
    if kernels != [3] * count + [1] * (len(kernels) - count):
        shown = ", ".join(map(str, kernels))
        raise ValueError(f"the temporal kernels of {name} are {shown}, not 3s and then 1s")
    return count


def _nonlocals(weights: Weights, stage: str) -> tuple[int, ...]:
    found = [re.fullmatch(rf"slow\.{stage}\.nonlocals\.(\d+)\.theta\.weight", k) for k in weights]
    return tuple(sorted(int(m[1]) for m in found if m))


def _widths(weights: Weights, pathways: tuple[Pathway, ...]) -> dict[str, Any]:
    """Of the Slow pathway, and what divides them for the Fast one."""

    def widths(pathway: Pathway) -> list[int]:
        last = [weights[f"{pathway}.{stage}.blocks.0.c.weight"].shape[0] for stage in STAGES]
        return [weights[STEMS[pathway]].shape[0], *last]

    fields: dict[str, Any] = {}
    if "slow" in pathways:
        fields["width"] = width = widths("slow")[0]
        if widths("slow") != _expected(width, 1):
            raise ValueError(f"its Slow pathway is {widths('slow')} channels wide")
        if "fast" not in pathways:
            return fields
        pairs = [(width, inverse) for inverse in range(1, width + 1)]
    else:
        # Many pairs have the same: first that of a variant of this depth, then the paper's part.
        count = tuple(len(_blocks(weights, "fast", stage)) for stage in STAGES)
        archs = [slowfast_arch(label) for label in VARIANTS]
        pairs = [(arch.width, arch.beta_inverse) for arch in archs if arch.blocks == count]
        pairs.append((8 * widths("fast")[0], 8))
    for width, inverse in pairs:
        if widths("fast") == _expected(width, inverse):
            return {"width": width, "beta_inverse": inverse}
    raise ValueError(f"its Fast pathway is {widths('fast')} channels wide")


def _expected(width: int, inverse: int) -> list[int]:
    """Channels behind the stem and every stage."""
    return [
        -(-channels // inverse)
        for channels in (width, *(4 * width * 2**i for i in range(len(STAGES))))
    ]


def _fusion(weights: Weights, pathways: tuple[Pathway, ...]) -> dict[str, Any]:
    """From lateral weights, or from the channels that enter the Slow res2."""
    if len(pathways) < 2:
        return {"fusion": "none"}
    lateral = weights.get("slow.laterals.0.conv.weight")
    if lateral is not None:
        return {"fusion": "t-conv", "fusion_kernel": lateral.shape[2]}
    slow, fast = (weights[STEMS[p]].shape[0] for p in pathways)
    added = weights["slow.res2.blocks.0.a.weight"].shape[1] - slow
    if added == 0:
        return {"fusion": None}
    if added == fast:
        return {"fusion": "t-sample"}
    if added > 0 and added % fast == 0:
        return {"fusion": "ttoc-concat", "alpha": added // fast}
    raise ValueError(
        f"{added} channels join the {slow} of its Slow pathway, where the Fast one has {fast}"
    )


def _nearest(fields: Mapping[str, Any]) -> str:
    """The variant that agrees in most fields; of equals the first."""

    def agreeing(label: str) -> int:
        arch = slowfast_arch(label)
        told = {field: value for field, value in fields.items() if field != "classes"}
        return sum(getattr(arch, field) == value for field, value in told.items())

    return max(VARIANTS, key=agreeing)


def _label(arch: SlowFastArch) -> str:
    """The variant of which `arch` is one, whatever its classes."""
    free = {"label", "causal", "pool", "classes", "resolution", "dropout"}
    record = arch.model_dump(exclude=free)
    for label in VARIANTS:
        if slowfast_arch(label).model_dump(exclude=free) == record:
            return label
    return "custom"
