"""LoFi on untrimmed motion videos: what an encoder was trained for decides what a head finds.

``python -m movinet_edge.benchmarks.localization_motion DATA RUNS [SEED...]`` trains and evaluates
all arms; results lie in ``benchmarks/results/localization/motion/``. DATA has two folders:
``trimmed`` of ``movinet-edge data make motion --per-class 100 --seed 1`` stands for another data
set, ``untrimmed`` of ``--untrimmed --per-class 150`` is the one to be localized in. What RUNS
holds already is not trained again, and a run that was stopped goes on.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from movinet_edge.benchmarks.motion import movinet_edge

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/localization/motion"
CONFIGS = ("S", "T", "ST", "cycle-short", "cycle-long")
# The recipe's epochs, which is to be quick, are half of those that ACP+ has on the same videos.
LONGER = "lofi-cycle-long-longer"


@dataclass(frozen=True)
class Encoder:
    """How an arm's encoder is made: a stage on one of the data sets, from where another ended.

    `frames` per snippet are what the arm's features have, whatever it was trained with.
    """

    stage: str
    trimmed: bool = False
    start: str | None = None
    words: tuple[str, ...] = ()
    frames: int | None = None


# The arms of the paper: image classification, action classification on another data set, that and
# the actions of this one, and LoFi in all its configurations.
ENCODERS: dict[str, Encoder] = {
    "icp": Encoder("acp", trimmed=True, words=("--frames", "1"), frames=8),
    "acp": Encoder("acp", trimmed=True),
    "acp-plus": Encoder("acp", start="acp"),
    **{
        f"lofi-{config}": Encoder("lofi", start="acp", words=("--config", config))
        for config in CONFIGS
    },
    LONGER: Encoder("lofi", start="acp", words=("--config", "cycle-long", "--set", "epochs=24")),
}


class Bench:
    """All arms of one seed."""

    def __init__(self, data: Path, runs: Path, seed: str):
        self.data, self.runs, self.seed = data, runs, seed
        self.untrimmed = data / "untrimmed"
        self.annotated: tuple[str | Path, ...] = (
            *("--task", "localization", "--data", self.untrimmed / "segments.json"),
        )

    def checkpoint(self, name: str) -> Path:
        folder = self.runs / f"{name}-{self.seed}"
        whole = folder / "whole.safetensors"
        return whole if whole.exists() else folder / "best.safetensors"

    def train(self, name: str, *words: str | Path) -> None:
        """A run, or the rest of it."""
        run = self.runs / f"{name}-{self.seed}"
        if (run / "done").exists():
            return
        again = (run / "run.json").exists()
        how = ("--task", "localization", "--resume") if again else (*words, "--seed", self.seed)
        cache = ("--cache", self.runs / "cache", "--workers", "1")
        movinet_edge("train", *how, "--out", run, *cache)
        (run / "done").touch()

    def encoder(self, name: str) -> None:
        made = ENCODERS[name]
        words: list[str | Path] = ["--recipe", f"motion-{made.stage}", "--stage", made.stage]
        if made.trimmed:
            words += ["--task", "localization", "--data", self.data / "trimmed"]
        else:
            words += [*self.annotated, "--videos", self.untrimmed]
        if made.start is not None:
            words += ["--init", self.checkpoint(made.start)]
        self.train(name, *words, *made.words)
        whole = self.runs / f"{name}-{self.seed}" / "whole.safetensors"
        if made.frames is not None and not whole.exists():
            frames = f"frames={made.frames}"
            movinet_edge("import", self.checkpoint(name), "--out", whole, "--set", frames)

    def arm(self, name: str) -> None:
        """The encoder, its features, a head on them, and what that finds."""
        self.encoder(name)
        features = self.runs / f"features-{name}-{self.seed}"
        where = ("--videos", self.untrimmed, "--out", features)
        made = ("--data", self.untrimmed / "segments.json", "--snippets", "48")
        movinet_edge("features", self.checkpoint(name), *made, *where)
        words = ("--recipe", "motion-head", "--stage", "head", "--init", self.checkpoint(name))
        self.train(f"head-{name}", *words, *self.annotated, "--features", features)
        record = RESULTS / f"{name}-{self.seed}.json"
        asked = (*self.annotated, "--features", features, "--split", "test", "--json", record)
        movinet_edge("evaluate", self.checkpoint(f"head-{name}"), *asked)


def main() -> None:
    data, runs, seeds = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or ["0", "1", "2"]
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        bench = Bench(data, runs, seed)
        for name in ENCODERS:
            bench.arm(name)


if __name__ == "__main__":
    main()
