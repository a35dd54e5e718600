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
from movinet_edge.models.tsm_table import TsmArch

POLICY = "policy"
NET = "net"  # of a TSM


@dataclass(frozen=True)
class Parts:
    """An architecture as its parts were trained, and their weights by the model's names."""

    arch: ModelArch
    weights: Weights


def read_parts(arch: ModelArch, places: Sequence[str], labels: Sequence[str]) -> Parts:
    """What ``PLACE=FILE`` says, any number of times; a place is ``policy`` or a backbone's number.

    A file is a checkpoint of ours that holds one network (its classifier is taken over where the
    class names are `labels`, in whatever order, and of a policy its LSTM), or one of torchvision,
    timm or EfficientNet-PyTorch. A TSM has one place, ``net``, for a plain ResNet's file.

    Raises:
        BadInput: a place that is not there, or a file that holds another network.
    """
    if not places:
        return Parts(arch, {})
    if isinstance(arch, TsmArch):
        return Parts(arch, _plain(arch, places))
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
        read, found = _read(Path(file), place, wanted, labels)
        _check_hidden(found, arch.hidden, file)
        weights |= found
        if place == POLICY:
            policy = read
        else:
            backbones[int(place)] = read
    made = arch.model_copy(update={"policy": policy, "backbones": tuple(backbones)})
    return Parts(made, weights)


def _plain(arch: TsmArch, places: Sequence[str]) -> Weights:
    """Weights of a TSM's ResNet by the model's names, from the file of the last of `places`."""
    weights: Weights = {}
    for text in places:
        place, _, file = text.partition("=")
        if place != NET or not file:
            raise BadInput(f"--init-backbone takes {NET}=FILE, not {text}")
        found, _ = read_backbone(read_weights(Path(file)), arch.plain, file)
        weights |= {f"{NET}.{key}": value for key, value in found.items()}
    return weights


def _check_hidden(weights: Weights, hidden: int, file: str) -> None:
    recurrent = weights.get(f"{POLICY}.cell.recurrent.weight")
    if recurrent is not None and recurrent.shape[1] != hidden:
        raise BadInput(
            f"the policy in {file} has an LSTM of {recurrent.shape[1]}, the model one of {hidden}; "
            f"--set hidden={recurrent.shape[1]}"
        )


def _wanted(arch: ArNetArch, place: str) -> Backbone | None:
    """The backbone of a place, if there is such a place."""
    if place == POLICY:
        return arch.policy
    numbers = {str(k): backbone for k, backbone in enumerate(arch.backbones)}
    return numbers.get(place)


def _read(
    path: Path, place: str, wanted: Backbone, labels: Sequence[str]
) -> tuple[Backbone, Weights]:
    """A place's backbone as it was trained, and weights by the model's names.

    Of a policy that was trained alone its LSTM, too.
    """
    inside = POLICY if place == POLICY else f"backbones.{place}"
    if not (path.is_file() and is_native(path)):
        weights, read = read_backbone(read_weights(path), wanted, path)
        return read, {f"{inside}.net.{k}": v for k, v in weights.items()}
    held = load_checkpoint(path)
    arch = held.arch
    nets = [] if not isinstance(arch, ArNetArch) else [*arch.backbones, arch.policy]
    alone = [net for net in nets if net is not None]
    if len(alone) != 1:
        raise BadInput(f"{path} holds a {arch.name}, not one network alone")
    (read,) = alone
    if read.name != wanted.name:
        raise BadInput(f"{path} holds a {read.name}, and {wanted.name} is wanted")
    was = POLICY if read is nets[-1] else "backbones.0"
    same = (was == POLICY) == (place == POLICY)  # else its cell and classifier are of no use
    weights = {
        k.removeprefix(f"{was}."): v
        for k, v in held.model.state_dict().items()
        if same or ".net." in k
    }
    known = held.labels or []
    for name in [name for name in weights if name.startswith("classify.")]:
        if sorted(known) == sorted(labels):
            weights[name] = weights[name][[known.index(label) for label in labels]]
        else:
            del weights[name]
    return read.model_copy(update={"side": wanted.side}), {
        f"{inside}.{k}": v for k, v in weights.items()
    }
