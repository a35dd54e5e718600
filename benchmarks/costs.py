"""What each network of a model that decides costs on this machine: a cost table in ms."""

from __future__ import annotations

import gc
import random
import time

import numpy as np

from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput
from movinet_edge.models.arnet_cost import POLICY, CostTable
from movinet_edge.runtime import Stream

WARMUP = 10
RUNS = 200


def measure_costs(
    bundle: Bundle,
    backend: str | None = None,
    precision: str | None = None,
    threads: int = 1,
    runs: int = RUNS,
) -> CostTable:
    """Median times of a run of each graph, in turns, in an order shuffled anew each round.

    Making frames smaller and deciding are left out: they take a hundredth of a run, or less.

    Raises:
        BadInput: the bundle decides nothing, or as `Stream`.
    """
    plan = bundle.manifest.plan
    if plan.choice is None:
        raise BadInput(f"{bundle.path} decides nothing, so there are no costs to choose by")
    names = {plan.choice.graph: POLICY}
    names |= {step.graph: step.when for step in plan.steps if step.when is not None}
    spent: dict[str, list[float]] = {name: [] for name in names.values()}
    shuffle = random.Random(0).shuffle
    with Stream(bundle, backend, precision, threads) as stream:
        runners = list(stream.graphs.items())
        gc.collect()
        for number in range(WARMUP + runs):
            shuffle(runners)
            for graph, runner in runners:
                start = time.perf_counter_ns()
                runner.run()
                taken = (time.perf_counter_ns() - start) / 1e6
                if number >= WARMUP:
                    spent[names[graph]].append(taken)
    medians = {name: round(float(np.median(times)), 4) for name, times in spent.items()}
    return CostTable(unit="ms", networks=medians)
