"""The plan of a model's graphs: when each runs, and what decides on that."""

from __future__ import annotations

from collections.abc import Sequence

from movinet_edge.bundle import Action, Choice, Plan, PlanStep
from movinet_edge.export.graph_files import is_whole
from movinet_edge.models.arch import ModelArch
from movinet_edge.models.arnet import CELL
from movinet_edge.models.arnet_cost import POLICY, CostTable, true_costs
from movinet_edge.models.arnet_table import ArNetArch
from movinet_edge.streaming.deploy import ACTION, Part


def make_plan(
    arch: ModelArch, parts: Sequence[Part], name: str, costs: CostTable | None = None
) -> Plan:
    """The plan of `parts`; a single graph that is the whole model is called `name`.

    Args:
        costs: of a model that decides (default: multiply-adds).

    Raises:
        BadInput: `costs` lack one of its networks.
    """
    single = is_whole(parts)
    steps = tuple(
        PlanStep(graph=name if single else part.name, every=part.every, when=part.when)
        for part in parts
    )
    delay = max(part.delay for part in parts)
    if not isinstance(arch, ArNetArch):
        return Plan(steps=steps, delay=delay)
    choice = _choice(arch, costs or true_costs(arch)) if arch.chooses else None
    return Plan(steps=steps, delay=delay, combine="looks", choice=choice)


def _choice(arch: ArNetArch, costs: CostTable) -> Choice:
    per_frame = costs.per_frame(arch)
    return Choice(
        graph=POLICY,
        output=ACTION,
        actions=tuple(
            Action(name=action.name, skip=action.skip, cost=cost)
            for action, cost in zip(arch.actions, per_frame, strict=True)
        ),
        unit=costs.unit,
        going_on=(CELL,) if arch.hold == "hidden" and arch.skips else (),
    )
