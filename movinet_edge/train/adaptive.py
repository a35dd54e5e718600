"""Training of models that decide: what their decisions cost, and how soft their gradients are.

Losses and weights of AR-Net (mengyuest/AR-Net, `cal_eff`): cross entropy, the cost of what is
used, and how unevenly actions are used. Gumbel noise and its straight-through gradients are the
model's own.
"""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor, nn

from movinet_edge.errors import BadInput
from movinet_edge.models.arnet import DECISIONS, ArNet
from movinet_edge.models.arnet_cost import CostTable, read_costs, true_costs
from movinet_edge.models.arnet_table import ArNetArch
from movinet_edge.streaming.state import State
from movinet_edge.train.recipe import Recipe


class Adaptive:
    """What a model that decides needs of its trainer.

    Raises:
        BadInput: the recipe's cost table is missing, damaged or lacks a network.
    """

    def __init__(self, model: ArNet, recipe: Recipe):
        self.model, self.recipe = model, recipe
        self.costs = scaled(look_costs(model.arch, recipe), recipe.dearest)

    def begin(self, epoch: int) -> None:
        """Decisions become harder epoch by epoch."""
        recipe = self.recipe
        self.model.temperature = recipe.temperature * math.exp(-recipe.temperature_decay * epoch)

    def loss(self, state: State) -> Tensor:
        """What is added to the cross entropy, after a clip that left `state` behind."""
        decisions = state[DECISIONS].float()
        usage = decisions.mean((0, 1))
        cost = (usage * usage.new_tensor(self.costs)).sum()
        return self.recipe.cost_weight * (cost + self.recipe.uniform_weight * unevenness(usage))


def unevenness(usage: Tensor) -> Tensor:
    """The L2 distance of shares [actions] from all being alike."""
    shares = usage / usage.sum()
    return (shares - shares.mean()).norm()


def look_costs(arch: ArNetArch, recipe: Recipe) -> tuple[float, ...]:
    """What each action adds to the policy's run, by the recipe's table or in multiply-adds."""
    table: CostTable = true_costs(arch)
    if recipe.costs is not None:
        table = read_costs(Path(recipe.costs), arch)
    return table.looks(arch)


def scaled(costs: tuple[float, ...], dearest: float | None) -> tuple[float, ...]:
    """Costs in a unit in which the largest is `dearest` (None: as they are)."""
    if dearest is None or not max(costs):
        return costs
    return tuple(cost * dearest / max(costs) for cost in costs)


def adaptive(model: nn.Module, recipe: Recipe) -> Adaptive | None:
    """Of a model that learns to decide; None of others.

    Raises:
        BadInput: as `Adaptive`, or the recipe has a cost table and the model nothing to decide.
    """
    if isinstance(model, ArNet) and model.arch.chooses and model.arch.decides == "policy":
        return Adaptive(model, recipe)
    if recipe.costs is not None:
        name = getattr(getattr(model, "arch", None), "name", "the model")
        raise BadInput(f"{name} has nothing to decide; leave out costs")
    return None
