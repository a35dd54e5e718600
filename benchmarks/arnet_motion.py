"""AR-Net on the adaptive motion videos: three stages, baselines, the dial, bundles.

``python -m movinet_edge.benchmarks.arnet_motion DATA RUNS [SEED...]`` trains and evaluates on the
videos of ``movinet-edge data make motion --variant adaptive --per-class 300``; results lie in
``benchmarks/results/arnet/``. What RUNS holds already is not trained again, and a run that was
stopped goes on; a model that is older than its record is not evaluated again. The dial is swept
for the first seed.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from movinet_edge.benchmarks.arnet_bundles import FRAMES, compare, decisions, read_videos, save
from movinet_edge.benchmarks.motion import movinet_edge
from movinet_edge.benchmarks.slowfast import ENGINES
from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.native import load_checkpoint
from movinet_edge.models.arnet import ArNet
from movinet_edge.models.arnet_cost import true_costs

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/arnet"
# Ten epochs leave the largest scale of some seeds on the plateau before it knows a pattern: where
# its training loss ends above this, it is trained half as long again.
PLATEAU, MORE = 1.3, "-more"
CHOSEN = "arnet"
# What all networks of stage 1 take part in, and the model's suffix.
TOGETHER: dict[str, str | None] = {
    CHOSEN: None,
    **{name: name for name in ("multi-scale", "random")},
}
# Settings of the dial, in units of what the dearest action costs.
BIASES = (-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0)
# Those that all seeds are evaluated at: as good as Multi-Scale, and no dearer than RANDOM.
DIALLED = {"arnet-dearer": -0.5, "arnet-cheaper": 0.25}
UNITS = ("GFLOPs", "ms")
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class Stage:
    """One training run: a recipe, a baseline's name or (None) the whole model, what it starts from.

    `parts` are put together from other runs, by place; `start` is gone on from. `words` are for the
    command.
    """

    recipe: str
    baseline: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    start: str | None = None
    words: tuple[str, ...] = ()


def policy_and(scales: Sequence[str]) -> dict[str, str]:
    """The parts that stage 2 begins with."""
    return {"policy": "lite", **{str(k): name for k, name in enumerate(scales)}}


def joint(name: str) -> str:
    """The run of stage 2 that leads to a model of `TOGETHER`."""
    return f"{name}-joint"


@dataclass(frozen=True)
class Study:
    """How a model is trained: `stages` in their order, of which `scales`, the largest first.

    The first scale alone is the paper's UNIFORM.
    """

    model: str
    scales: tuple[str, ...]
    stages: dict[str, Stage]

    def checkpoint(self, runs: Path, name: str, seed: str) -> Path:
        if (runs / f"{name}{MORE}-{seed}").exists():
            name += MORE
        return runs / f"{name}-{seed}" / "last.safetensors"

    def train(self, name: str, seed: str, data: Path, runs: Path) -> None:
        """Train one, or go on with it."""
        stage, run = self.stages[name], runs / f"{name}-{seed}"
        if (run / "done").exists():
            return
        if name.endswith(MORE) and not stays_on_plateau(runs / f"{stage.start}-{seed}"):
            return
        words: list[str | Path] = ["--recipe", stage.recipe, "--seed", seed, *stage.words]
        words += ["--model", "-".join(filter(None, (self.model, stage.baseline)))]
        for place, part in stage.parts.items():
            words += ["--init-backbone", f"{place}={self.checkpoint(runs, part, seed)}"]
        if stage.start is not None:
            words += ["--init", self.checkpoint(runs, stage.start, seed)]
        words = ["--resume"] if (run / "run.json").exists() else [*words, "--data", data]
        movinet_edge("train", *words, "--out", run, "--cache", runs / "cache", "--workers", "1")
        (run / "done").touch()


def stays_on_plateau(run: Path) -> bool:
    with (run / "epochs.csv").open() as file:
        *_, last = csv.DictReader(file)
    return float(last["loss"]) > PLATEAU


SCALES = ("scale-80", "scale-60", "scale-40")
ALONE = SCALES[0]
TINY = Study(
    "arnet-tiny",
    SCALES,
    {
        "lite": Stage("motion-arnet-lite", "lite"),
        **{name: Stage("motion-arnet-scale", name) for name in SCALES},
        f"{ALONE}{MORE}": Stage(
            "motion-arnet-scale", ALONE, start=ALONE, words=("--set", "epochs=5")
        ),
        # The baselines with the same parts are trained as long, in the same stages.
        **{
            joint(name): Stage("motion-arnet", baseline, parts=policy_and(SCALES))
            for name, baseline in TOGETHER.items()
        },
        **{
            name: Stage("motion-arnet-finetune", baseline, start=joint(name))
            for name, baseline in TOGETHER.items()
        },
    },
)


def evaluate(source: Path, data: Path, record: str, *words: str) -> None:
    """Accuracy and cost on FRAMES of every test video, unless they are known."""
    found = RESULTS / f"{record}.json"
    if found.exists() and found.stat().st_mtime > source.stat().st_mtime:
        return
    where = ("--data", data, "--split", "test", "--protocol", "uniform", "--frames", str(FRAMES))
    movinet_edge("evaluate", source, *where, "--json", found, *words)


def export(source: Path, bundle: Path, *words: str | Path) -> None:
    """Make the bundle, unless there is one that is newer than the checkpoint."""
    manifest = bundle / "manifest.json"
    if not manifest.exists() or manifest.stat().st_mtime < source.stat().st_mtime:
        movinet_edge("export", source, "--out", bundle, *words)


def turned(seed: str, data: Path, runs: Path) -> None:
    """The model at other settings of its dial."""
    source = TINY.checkpoint(runs, CHOSEN, seed)
    model = load_checkpoint(source).model
    assert isinstance(model, ArNet)
    largest = max(true_costs(model.arch).per_frame(model.arch))
    for name, bias in DIALLED.items():
        evaluate(source, data, f"{name}-{seed}", "--device", "cpu", dialled(bias, largest))


def dial(seed: str, data: Path, runs: Path) -> None:
    """One bundle at all settings of the dial: by multiply-adds, and by this computer's ms."""
    source, costs = TINY.checkpoint(runs, CHOSEN, seed), runs / f"costs-{seed}.json"
    for unit in UNITS:
        bundle = runs / f"bundle-{unit}-{seed}"
        words = ("--costs", costs) if unit == "ms" else ()
        export(source, bundle, *words)
        if unit == "GFLOPs":
            movinet_edge("bench", bundle, "--engine", "litert", "--costs", costs)
        for bias in BIASES:
            how = ("--backend", "litert", dialled(bias, dearest(bundle)))
            evaluate(bundle, data, f"dial-{unit}-{bias:g}-{seed}", *how)


def dialled(bias: float, dearest: float) -> str:
    """A setting of the dial in units of what the dearest action costs, as the commands take it."""
    return f"--cost-bias={bias / dearest:.6g}"


def dearest(bundle: Path) -> float:
    """What the dearest action of a bundle costs, in its unit."""
    choice = Bundle(bundle).manifest.plan_for("tflite").choice
    assert choice is not None
    return max(action.cost for action in choice.actions)


def prove(
    study: Study,
    seed: str,
    data: Path,
    runs: Path,
    precisions: Sequence[str] = PRECISIONS,
    prefix: str = "",
) -> None:
    """Decisions and times of the bundle on both engines; records' names begin with `prefix`."""
    names = (CHOSEN, study.scales[0])
    sources = [study.checkpoint(runs, name, seed) for name in names]
    bundles = [runs / f"exported-{name}-{seed}" for name in names]
    words = [f"--precision={precision}" for precision in precisions]
    for source, bundle in zip(sources, bundles, strict=True):
        export(source, bundle, *words, "--calibrate", data / "train")
    videos = read_videos(data, "test", sources[0])
    wanted = decisions(sources[0], videos)
    for engine, precision in product(ENGINES, precisions):
        record = compare(bundles, engine, precision, data, videos, wanted)
        save(record, RESULTS / f"{prefix}{engine}-{precision}-{seed}.json")


def main() -> None:
    data, runs, seeds = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or ["0", "1", "2"]
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for name in TINY.stages:
            TINY.train(name, seed, data, runs)
        for name in sorted(TINY.stages.keys() - {f"{ALONE}{MORE}", *map(joint, TOGETHER)}):
            evaluate(TINY.checkpoint(runs, name, seed), data, f"{name}-{seed}", "--device", "cpu")
        turned(seed, data, runs)
    dial(seeds[0], data, runs)
    for seed in seeds:
        prove(TINY, seed, data, runs)


if __name__ == "__main__":
    main()
