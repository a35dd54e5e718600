"""What branches save at 224 pixels: an untrained AR-Net that draws its actions, dial by dial.

``python -m movinet_edge.benchmarks.arnet_saving`` runs each of `VIDEOS`' bundles and that of its
largest scale alone in turn on generated videos, one thread, and writes a record per engine and
setting to ``benchmarks/results/arnet/``. Times do not depend on weights, what is chosen does: all
actions have the same score, so that they are drawn as often as each other but for the dial. (An
even usage is what the published training asks for.)
"""

from __future__ import annotations

import tempfile
from itertools import product
from pathlib import Path

from torch import nn

from movinet_edge.benchmarks.arnet_bundles import FRAMES, Saving, Timed, save
from movinet_edge.benchmarks.arnet_motion import RESULTS, dearest
from movinet_edge.benchmarks.machine import describe_machine, tool_versions
from movinet_edge.benchmarks.slowfast import ENGINES
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.models.arnet import ArNet
from movinet_edge.models.arnet_table import ArNetArch
from movinet_edge.models.registry import MODELS, default_preprocessing, seeded_model
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime.choice import Chooser

VIDEOS = {"arnet-resnet": 12, "arnet-mobile": 24}
# Settings of the dial, in units of what the dearest action costs: from dear to even.
SETTINGS = (-4.0, -2.0, -1.0, 0.0)


def measure(
    bundles: tuple[Path, Path], engine: str, setting: float, side: int, videos: int
) -> Saving:
    """The bundle and the one of the largest scale, in turn, video by video."""
    bias = setting / dearest(bundles[0])
    ours, alone = (Timed(bundle, engine, "fp32") for bundle in bundles)
    assert ours.stream.chooser is not None
    choice = ours.stream.chooser.choice
    clips = [moving_pattern(FRAMES, side, side, seed) for seed in range(videos)]
    for timed in (ours, alone):
        timed.warm_up(clips[0])
    for seed, clip in enumerate(clips):
        ours.stream.chooser = Chooser(choice, bias, seed)  # or all videos draw the same
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


def undecided(arch: ArNetArch) -> ArNet:
    """A model to whose policy all actions are alike."""
    model = seeded_model(arch)
    assert isinstance(model, ArNet)
    if model.policy is not None and model.policy.act is not None:
        for values in model.policy.act.parameters():
            nn.init.zeros_(values)
    return model


def run(model: str, videos: int) -> None:
    """Export, measure and write the records of one model."""
    whole = MODELS[model]
    assert isinstance(whole, ArNetArch)
    with tempfile.TemporaryDirectory() as folder:
        bundles = Path(folder) / "ours", Path(folder) / "alone"
        for arch, bundle in zip((whole, whole.alone(0)), bundles, strict=True):
            made = Checkpoint(undecided(arch), default_preprocessing(arch))
            export(made, bundle, ExportOptions(verify=False))
        for engine, setting in product(ENGINES, SETTINGS):
            record = measure(bundles, engine, setting, whole.resolution, videos)
            print(model, engine, setting, record.ours, record.alone, flush=True)
            save(record, RESULTS / f"saving-{model}-{engine}-{setting:g}.json")


def main() -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    for model, videos in VIDEOS.items():
        run(model, videos)


if __name__ == "__main__":
    main()
