"""What branches save at 224 pixels, all actions taken: an untrained AR-Net that draws its actions.

``python -m movinet_edge.benchmarks.arnet_saving`` runs `MODEL`'s bundle and that of its largest
scale alone in turn on generated videos, one thread, and writes a record per engine to
``benchmarks/results/arnet/``. Times do not depend on weights.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from movinet_edge.benchmarks.arnet_bundles import FRAMES, Saving, Timed, save
from movinet_edge.benchmarks.arnet_motion import RESULTS
from movinet_edge.benchmarks.machine import describe_machine, tool_versions
from movinet_edge.benchmarks.slowfast import ENGINES
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.models.registry import MODELS, default_preprocessing, seeded_model
from movinet_edge.pattern import moving_pattern

MODEL = "arnet-mobile"
ALONE = f"{MODEL}-scale-224"
VIDEOS = 24
SEED = 0  # of the actions


def measure(bundles: tuple[Path, Path], engine: str, side: int, videos: int) -> Saving:
    """The bundle and the one of the largest scale, in turn, video by video."""
    ours, alone = Timed(bundles[0], engine, "fp32", SEED), Timed(bundles[1], engine, "fp32")
    clips = [moving_pattern(FRAMES, side, side, seed) for seed in range(videos)]
    for timed in (ours, alone):
        timed.warm_up(clips[0])
    for clip in clips:
        ours.video(clip)
        alone.video(clip)
    return Saving(
        model=ours.stream.bundle.manifest.name,
        engine=engine,
        precision="fp32",
        videos=videos,
        frames=videos * FRAMES,
        ours=ours.cost(),
        alone=alone.cost(),
        machine=describe_machine(None),
        versions=tool_versions(),
    )


def main() -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        bundles = Path(folder) / "ours", Path(folder) / "alone"
        for name, bundle in zip((MODEL, ALONE), bundles, strict=True):
            arch = MODELS[name]
            made = Checkpoint(seeded_model(arch), default_preprocessing(arch))
            export(made, bundle, ExportOptions(verify=False))
        for engine in ENGINES:
            record = measure(bundles, engine, MODELS[MODEL].resolution, VIDEOS)
            print(engine, record.ours, record.alone)
            save(record, RESULTS / f"saving-{engine}.json")


if __name__ == "__main__":
    main()
