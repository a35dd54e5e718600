"""Models that are put together from backbones which were trained before, each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from movinet_edge.checkpoints.backbone_file import read_backbone
from movinet_edge.checkpoints.importer import read_weights
from movinet_edge.checkpoints.infer import Weights
from movinet_edge.checkpoints.native import is_native, load_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.models.arch import ModelArch
from movinet_edge.models.arnet_table import ArNetArch
from movinet_edge.models.backbone_table import Backbone

POLICY = "policy"


@dataclass(frozen=True)
class Parts:
    """An architecture as its parts were trained, and their weights by the model's names."""

    arch: ModelArch
    weights: Weights


def read_parts(arch: ModelArch, places: Sequence[str], labels: Sequence[str]) -> Parts:
    """What ``PLACE=FILE`` says, any number of times; a place is ``policy`` or a backbone's number.

    A file is a checkpoint of ours that holds one network (its classifier is taken over where the
    class names are `labels`, in whatever order), or one of torchvision, timm or
    EfficientNet-PyTorch.

    Raises:
        BadInput: a place that is not there, or a file that holds another network.
    """
    if not places:
        return Parts(arch, {})
    if not isinstance(arch, ArNetArch):
        raise BadInput(f"{arch.name} is not put together from backbones; leave out init_backbone")
    weights: Weights = {}
    backbones, policy = list(arch.backbones), arch.policy
    for text in places:
        place, equals, file = text.partition("=")
        wanted = _wanted(arch, place) if equals else None
        if wanted is None:
            known = [*([POLICY] if policy else []), *map(str, range(len(backbones)))]
            raise BadInput(f"--init-backbone takes PLACE=FILE with {', '.join(known)}, not {text}")
        found, read, classifier = _read(Path(file), wanted, labels)
        if place == POLICY:
            policy = read
            weights |= {f"policy.net.{k}": v for k, v in found.items()}
        else:
            backbones[int(place)] = read
            weights |= {f"backbones.{place}.net.{k}": v for k, v in found.items()}
            weights |= {f"backbones.{place}.classify.{k}": v for k, v in classifier.items()}
    made = arch.model_copy(update={"policy": policy, "backbones": tuple(backbones)})
    return Parts(made, weights)


def _wanted(arch: ArNetArch, place: str) -> Backbone | None:
    """The backbone of a place, if there is such a place."""
    if place == POLICY:
        return arch.policy
    numbers = {str(k): backbone for k, backbone in enumerate(arch.backbones)}
    return numbers.get(place)


def _read(path: Path, wanted: Backbone, labels: Sequence[str]) -> tuple[Weights, Backbone, Weights]:
    """The weights of a backbone, the backbone as they were trained, and those of its classifier."""
    if not (path.is_file() and is_native(path)):
        weights, read = read_backbone(read_weights(path), wanted, path)
        return weights, read, {}
    held = load_checkpoint(path)
    arch = held.arch
    if not isinstance(arch, ArNetArch) or arch.policy is not None or len(arch.backbones) != 1:
        raise BadInput(f"{path} holds a {arch.name}, not one network alone")
    (read,) = arch.backbones
    if read.name != wanted.name:
        raise BadInput(f"{path} holds a {read.name}, and {wanted.name} is wanted")
    weights = held.model.state_dict()
    net = {k.removeprefix("backbones.0.net."): v for k, v in weights.items() if ".net." in k}
    known = held.labels or []
    if sorted(known) != sorted(labels):
        return net, read.model_copy(update={"side": wanted.side}), {}
    order = [known.index(label) for label in labels]
    classifier = {
        k.removeprefix("backbones.0.classify."): v[order]
        for k, v in weights.items()
        if ".classify." in k
    }
    return net, read.model_copy(update={"side": wanted.side}), classifier
