"""What AR-Net's networks cost, and what the use of its actions adds up to.

Costs are per network; those of actions follow. The published accounting (net_flops_table.py and
main_base.py of mengyuest/AR-Net) counts multiply-adds as GFLOPs, EfficientNets by constants of
their paper scaled by the area, and an LSTM's entry as 2 x features^2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from movinet_edge.errors import BadInput
from movinet_edge.models.arnet_table import ArNetArch
from movinet_edge.models.backbone import BackboneNet
from movinet_edge.models.backbone_table import Backbone
from movinet_edge.streaming.spec import counted_macs

POLICY = "policy"
TO_MAKE_ONE = "movinet-edge bench BUNDLE --costs FILE writes one"
_Count = Callable[[Backbone, int], float]  # of a backbone with a classifier of so many classes
_LstmCount = Callable[[ArNetArch], float]


class CostTable(BaseModel):
    """The cost of each network in `unit`: the policy's, and the backbones' by their actions' names.

    ``GFLOPs`` are 10^9 multiply-adds; ``ms`` are measured on the device that the model is for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: Literal["GFLOPs", "ms"]
    networks: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]

    def looks(self, arch: ArNetArch) -> tuple[float, ...]:
        """What each action adds to the policy's run; 0 for its own prediction and for skips.

        Raises:
            BadInput: the table lacks a network of the architecture.
        """
        used = {POLICY: arch.policy is not None}
        used |= {arch.actions[k].name: True for k in range(len(arch.backbones))}
        for name in (name for name, needed in used.items() if needed):
            if name not in self.networks:
                raise BadInput(
                    f"the cost table has no {name}; it needs "
                    f"{', '.join(n for n, needed in used.items() if needed)}"
                )
        return tuple(
            0.0 if action.backbone is None else self.networks[action.name]
            for action in arch.actions
        )

    def per_frame(self, arch: ArNetArch) -> tuple[float, ...]:
        """The cost of a frame for each action, the policy's run included.

        Of a skip of k frames that is a k-th of the run that decided on it, unless the policy runs
        on while a skip holds.
        """
        return self._per_frame(arch, runs_on=arch.hold == "hidden")

    def frame_cost(self, arch: ArNetArch, usage: Sequence[float]) -> float:
        """The mean cost of a frame, given the share of frames that each action has.

        A frame within a skip counts as that skip's, a k-th of a run, whatever the policy does in
        it, as publications count. Where all looks are taken, all are paid.
        """
        if not arch.chooses:
            return self._policy(arch) + sum(self.looks(arch))
        costs = self._per_frame(arch, runs_on=False)
        return sum(u * cost for u, cost in zip(usage, costs, strict=True))

    def _per_frame(self, arch: ArNetArch, runs_on: bool) -> tuple[float, ...]:
        policy = self._policy(arch)
        return tuple(
            extra + (policy if runs_on else policy / max(action.skip, 1))
            for extra, action in zip(self.looks(arch), arch.actions, strict=True)
        )

    def _policy(self, arch: ArNetArch) -> float:
        """The cost of the policy's run, 0 without one."""
        return 0.0 if arch.policy is None else self.networks.get(POLICY, 0.0)


def true_costs(arch: ArNetArch) -> CostTable:
    """Multiply-adds of convolutions and dense layers as they are, classifiers included."""
    return CostTable(unit="GFLOPs", networks=_networks(arch, _macs, _true_lstm))


def published_costs(arch: ArNetArch) -> CostTable:
    """As the published figures were counted; see this module."""
    return CostTable(unit="GFLOPs", networks=_networks(arch, _published, _published_lstm))


def read_costs(path: Path, arch: ArNetArch) -> CostTable:
    """A table from a JSON file: ``{"unit": "ms", "networks": {"policy": 1.9, ...}}``.

    Raises:
        BadInput: missing or damaged, or it lacks a network of the architecture.
    """
    try:
        table = CostTable.model_validate_json(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"there is no cost table at {path} ({error}); {TO_MAKE_ONE}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = f"{place or 'json'}: {first['msg']}"
        raise BadInput(f"{path} is no cost table ({reason}); {TO_MAKE_ONE}") from None
    table.looks(arch)
    return table


def _networks(arch: ArNetArch, net: _Count, lstm: _LstmCount) -> dict[str, float]:
    found = {}
    if arch.policy is not None:
        found[POLICY] = net(arch.policy, arch.classes) + lstm(arch)
    for k, backbone in enumerate(arch.backbones):
        found[arch.actions[k].name] = net(backbone, arch.classes)
    return found


def _macs(backbone: Backbone, classes: int) -> float:
    with torch.device("meta"):
        net = BackboneNet(backbone)
        image = torch.empty(1, 3, backbone.side, backbone.side)
    macs = sum(counted_macs(net, lambda: net.eval()(image)).values())
    return (macs + net.features * classes) / 1e9


def _published(backbone: Backbone, classes: int) -> float:
    constant = backbone.table.published_gmacs
    if constant is None:
        return _macs(backbone, classes)
    return float(constant * (backbone.side / 224) ** 2)


def _true_lstm(arch: ArNetArch) -> float:
    """The cell and the actions; the classifier reads the state, not the features."""
    assert arch.policy is not None
    features = arch.policy.table.features
    cell = 4 * arch.hidden * (features + arch.hidden)
    actions = arch.hidden * len(arch.actions) if arch.chooses else 0
    classifier = (arch.hidden if arch.lite else 0) - features
    return (cell + actions + classifier * arch.classes) / 1e9


def _published_lstm(arch: ArNetArch) -> float:
    assert arch.policy is not None
    return float(2 * arch.policy.table.features**2 / 1e9)
