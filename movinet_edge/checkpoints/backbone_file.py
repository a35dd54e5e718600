"""Weights of plain 2-D backbones in the naming of torchvision, timm and EfficientNet-PyTorch.

A naming is a list of pairs of module paths, ours and theirs, made from the backbone's table; a file
is read with the naming that has all of its names. Classifiers of other classes are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from movinet_edge.checkpoints.infer import Weights
from movinet_edge.errors import BadInput
from movinet_edge.models.backbone import BackboneNet
from movinet_edge.models.backbone_table import BACKBONES, Backbone, BackboneTable, BlockRow

Pairs = Iterator[tuple[str, str]]
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Naming:
    """One project's names; `classifier` are those that are not the backbone's.

    `changes` is what its models need to be computed as they were trained.
    """

    pairs: Callable[[BackboneTable], Pairs]
    classifier: tuple[str, ...]
    changes: Mapping[str, object] = field(default_factory=dict)


def _blocks(table: BackboneTable) -> Iterator[tuple[str, int, int, int, BlockRow]]:
    """Our path of every block, its stage, its place there, its number, and its row."""
    number = 0
    for stage, rows in enumerate(table.blocks):
        for index, row in enumerate(rows):
            yield f"stages.{stage}.{index}", stage, index, number, row
            number += 1


def _conv_norm(ours: str, conv: str, norm: str) -> Pairs:
    yield f"{ours}.conv", conv
    yield f"{ours}.norm", norm


def _resnet(table: BackboneTable) -> Pairs:
    yield from _conv_norm("stem", "conv1", "bn1")
    for ours, stage, index, _, row in _blocks(table):
        theirs = f"layer{stage + 1}.{index}"
        for number, part in enumerate("ab" if row.kind == "basic" else "abc", start=1):
            yield from _conv_norm(
                f"{ours}.{part}", f"{theirs}.conv{number}", f"{theirs}.bn{number}"
            )
        if row.stride > 1 or row.inputs != row.outputs:
            shortcut = f"{theirs}.downsample"
            yield from _conv_norm(f"{ours}.shortcut", f"{shortcut}.0", f"{shortcut}.1")


def _parts(row: BlockRow) -> list[str]:
    """The parts of an inverted block in order."""
    wider = ["expand"] if row.inner != row.inputs else []
    return [*wider, "spatial", *(["se"] if row.squeeze else []), "project"]


def _mobilenet_v2(table: BackboneTable, flat: bool) -> Pairs:
    """torchvision's; `flat`: before version 0.4, activations counted as modules of their own."""
    yield from _conv_norm("stem", "features.0.0", "features.0.1")
    count = 0
    for ours, _, _, number, row in _blocks(table):
        theirs, count = f"features.{number + 1}.conv", number + 2
        for place, part in enumerate(_parts(row)):
            if flat:
                names = f"{theirs}.{3 * place}", f"{theirs}.{3 * place + 1}"
            elif part == "project":
                names = f"{theirs}.{place}", f"{theirs}.{place + 1}"
            else:
                names = f"{theirs}.{place}.0", f"{theirs}.{place}.1"
            yield from _conv_norm(f"{ours}.{part}", *names)
    yield from _conv_norm("head", f"features.{count}.0", f"features.{count}.1")


def _torchvision_inverted(table: BackboneTable) -> Pairs:
    """MobileNetV3 (one list of blocks) and EfficientNet (a list for every stage)."""
    yield from _conv_norm("stem", "features.0.0", "features.0.1")
    staged, count = len(table.blocks) > 1, 0
    for ours, stage, index, number, row in _blocks(table):
        count = (stage if staged else number) + 2
        theirs = f"features.{count - 1}.{index}" if staged else f"features.{count - 1}"
        for place, part in enumerate(_parts(row)):
            inner = f"{theirs}.block.{place}"
            if part == "se":
                yield f"{ours}.se.reduce", f"{inner}.fc1"
                yield f"{ours}.se.expand", f"{inner}.fc2"
            else:
                yield from _conv_norm(f"{ours}.{part}", f"{inner}.0", f"{inner}.1")
    yield from _conv_norm("head", f"features.{count}.0", f"features.{count}.1")
    if table.hidden:
        yield "hidden", "classifier.0"


def _efficientnet_pytorch(table: BackboneTable) -> Pairs:
    yield from _conv_norm("stem", "_conv_stem", "_bn0")
    norms = {"expand": "_bn0", "spatial": "_bn1", "project": "_bn2"}
    convs = {"expand": "_expand_conv", "spatial": "_depthwise_conv", "project": "_project_conv"}
    for ours, _, _, number, row in _blocks(table):
        theirs = f"_blocks.{number}"
        for part in _parts(row):
            if part == "se":
                yield f"{ours}.se.reduce", f"{theirs}._se_reduce"
                yield f"{ours}.se.expand", f"{theirs}._se_expand"
            else:
                yield from _conv_norm(
                    f"{ours}.{part}", f"{theirs}.{convs[part]}", f"{theirs}.{norms[part]}"
                )
    yield from _conv_norm("head", "_conv_head", "_bn1")


def _timm_inverted(table: BackboneTable) -> Pairs:
    yield from _conv_norm("stem", "conv_stem", "bn1")
    for ours, stage, index, _, row in _blocks(table):
        theirs = f"blocks.{stage}.{index}"
        wide = {"expand": "conv_pw", "spatial": "conv_dw", "project": "conv_pwl"}
        narrow = {"spatial": "conv_dw", "project": "conv_pw"}
        names = wide if row.inner != row.inputs else narrow
        for number, (part, conv) in enumerate(names.items(), start=1):
            yield from _conv_norm(f"{ours}.{part}", f"{theirs}.{conv}", f"{theirs}.bn{number}")
        if row.squeeze:
            yield f"{ours}.se.reduce", f"{theirs}.se.conv_reduce"
            yield f"{ours}.se.expand", f"{theirs}.se.conv_expand"
    yield from _conv_norm("head", "conv_head", "bn2")


def _namings(backbone: Backbone) -> list[Naming]:
    table, name = backbone.table, backbone.name
    if name.startswith("resnet"):
        return [Naming(_resnet, ("fc.",))]
    if name.startswith("mobilenet-v3"):
        return [Naming(_torchvision_inverted, ("classifier.3.",))]
    if name.startswith("efficientnet"):
        torchvision: dict[str, object] = {"padding": "symmetric", "eps": 1e-5}
        return [
            Naming(_efficientnet_pytorch, ("_fc.",), {"padded_for": table.nominal}),
            Naming(_torchvision_inverted, ("classifier.1.",), torchvision),
            # Both kinds of weights have these names; see `Backbone.padding`.
            Naming(_timm_inverted, ("classifier.",)),
        ]
    return [
        Naming(lambda t: _mobilenet_v2(t, flat=False), ("classifier.",)),
        Naming(lambda t: _mobilenet_v2(t, flat=True), ("classifier.",)),
        Naming(_timm_inverted, ("classifier.",)),
    ]


def read_backbone(weights: Weights, backbone: Backbone, source: object) -> tuple[Weights, Backbone]:
    """Weights in our naming, and the backbone with what the file's project computes differently.

    Of what `backbone` says itself (padding, eps) nothing is changed.

    Raises:
        BadInput: the file holds another backbone, or one in a naming that is not known.
    """
    found, read, problems = _nearest(weights, backbone)
    if problems:
        raise BadInput(f"{source} does not hold a {backbone.name} ({'; '.join(problems)})")
    return found, read


def find_backbone(
    weights: Weights, side: int, source: object, names: Collection[str] = tuple(BACKBONES)
) -> tuple[Weights, Backbone]:
    """As `read_backbone` of whichever backbone, of those called so, the file holds.

    Raises:
        BadInput: it is none of those there are.
    """
    for name in names:
        found, read, problems = _nearest(weights, Backbone(name=name, side=side))
        if not problems:
            return found, read
    raise BadInput(f"{source} does not hold a backbone of a known kind ({', '.join(names)})")


def _nearest(weights: Weights, backbone: Backbone) -> tuple[Weights, Backbone, list[str]]:
    """With the naming that fits best: our weights, the backbone, and what is wrong, in words."""
    with torch.device("meta"):
        expected = BackboneNet(backbone).state_dict()
    expected = {k: v for k, v in expected.items() if not _counts(k)}
    tried = [(naming, *_renamed(weights, naming, backbone.table)) for naming in _namings(backbone)]
    naming, found, left = max(tried, key=lambda row: len(row[1].keys() & expected.keys()))
    found = {k: _shaped(v, expected[k]) if k in expected else v for k, v in found.items()}
    shapes = [
        f"{k} {list(found[k].shape)} instead of {list(expected[k].shape)}"
        for k in sorted(found.keys() & expected.keys())
        if found[k].shape != expected[k].shape
    ]
    missing = sorted(expected.keys() - found.keys())
    problems = [
        f"{kind}: {', '.join(names[:SHOWN])}{' ...' if len(names) > SHOWN else ''}"
        for kind, names in (("missing", missing), ("left over", left), ("wrong shape", shapes))
        if names
    ]
    said = backbone.model_dump(exclude_none=True)
    return found, Backbone.model_validate({**naming.changes, **said}), problems


def _renamed(weights: Weights, naming: Naming, table: BackboneTable) -> tuple[Weights, list[str]]:
    """What a naming knows under our names, and the names that it does not know."""
    modules = {theirs: ours for ours, theirs in naming.pairs(table)}
    found: Weights = {}
    left = []
    for key, value in weights.items():
        module, _, leaf = key.rpartition(".")
        if module in modules:
            if not _counts(key):
                found[f"{modules[module]}.{leaf}"] = value
        elif not key.startswith(naming.classifier):
            left.append(key)
    return found, left


def _counts(key: str) -> bool:
    """A counter that inference does not use and that some formats leave out."""
    return key.endswith("num_batches_tracked")


def _shaped(value: Tensor, wanted: Tensor) -> Tensor:
    """Dense layers of squeeze-excite are 1x1 convolutions elsewhere."""
    return value.flatten(1) if value.dim() == 4 and wanted.dim() == 2 else value
