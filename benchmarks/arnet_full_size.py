"""AR-Net at the published 224, 168 and 112 pixels, trained, and what its bundle saves on videos.

``python -m movinet_edge.benchmarks.arnet_full_size DATA RUNS`` trains `arnet-small` on the videos
of ``movinet-edge data make motion --variant adaptive --per-class 50 --size 256``, exports it and
its largest scale alone, and lets the bundles run over the test split in turn; the records are
``benchmarks/results/arnet/small-*``. What RUNS holds already is not trained again.

So that a processor is enough, every network learns on frames of half the size first, and goes on
at its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from movinet_edge.benchmarks.arnet_motion import (
    CHOSEN,
    RESULTS,
    Stage,
    Study,
    evaluate,
    policy_and,
    prove,
)

SEED, PREFIX = "0", "small-"
SCALES = LARGEST, MIDDLE, SMALLEST = ("scale-224", "scale-168", "scale-112")

# Half of the recipe's: 168 pixels are more of 224 here than 60 are of 80 there.
CHEAP = ("--set", "cost_weight=0.11")


def sized(side: int, epochs: int) -> tuple[str, ...]:
    """What makes a recipe one of frames of `side` pixels, cut from ones a tenth larger."""
    values = {"size": side, "short_side": side * 11 // 10, "epochs": epochs}
    return tuple(word for name, value in values.items() for word in ("--set", f"{name}={value}"))


def half(name: str) -> str:
    return f"{name}-half"


def twice(name: str, recipe: str) -> dict[str, Stage]:
    """A network of stage 1: at half the size, and on from there."""
    return {
        half(name): Stage(recipe, name, words=sized(112, 40)),
        name: Stage(recipe, name, start=half(name), words=sized(224, 4)),
    }


SMALL = Study(
    "arnet-small",
    SCALES,
    {
        **twice("lite", "motion-arnet-lite"),
        **twice(LARGEST, "motion-arnet-scale"),
        # The same network as the largest, and so the same at half the size.
        MIDDLE: Stage(
            "motion-arnet-scale", MIDDLE, parts={"0": half(LARGEST)}, words=sized(224, 4)
        ),
        **twice(SMALLEST, "motion-arnet-scale"),
        CHOSEN: Stage("motion-arnet", parts=policy_and(SCALES), words=(*sized(224, 5), *CHEAP)),
    },
)


def main() -> None:
    data, runs = Path(sys.argv[1]), Path(sys.argv[2])
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in SMALL.stages:
        SMALL.train(name, SEED, data, runs)
    for name in (*SCALES, CHOSEN):
        source = SMALL.checkpoint(runs, name, SEED)
        evaluate(source, data, f"{PREFIX}{name}-{SEED}", "--device", "cpu")
    prove(SMALL, SEED, data, runs, precisions=("fp32",), prefix=PREFIX)


if __name__ == "__main__":
    main()
