"""AR-Net's bundle against the PyTorch model and the largest scale alone, on videos."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.benchmarks.arnet_bundles import compare, decisions, read_videos, save
from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.data.motion import MotionConfig, make_motion
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.models.registry import default_preprocessing, seeded_model
from tests.arnets import ENGINES, checkpoint
from tests.test_arnet import tiny


@pytest.mark.parametrize("engine", ENGINES)
def test_what_runs_is_counted(engine: str, tmp_path: Path) -> None:
    """All decisions are PyTorch's, and graphs run for those and for nothing else."""
    data, source = tmp_path / "videos", tmp_path / "arnet.safetensors"
    make_motion(MotionConfig(classes=4, per_class=3, size=64, variant="adaptive"), data, jobs=1)
    save_checkpoint(checkpoint(classes=4, rate=2.5), source)
    alone = seeded_model(tiny(classes=4, rate=2.5).alone(0))
    models = (checkpoint(classes=4, rate=2.5), Checkpoint(alone, default_preprocessing(alone.arch)))
    bundles = (tmp_path / "ours", tmp_path / "alone")
    for model, bundle in zip(models, bundles, strict=True):
        export(model, bundle, ExportOptions(verify=False))
    videos = read_videos(data, "test", source)
    assert [len(frames) for frames, _ in videos] == [16] * 4
    assert {label for _, label in videos} == {0, 1, 2, 3}
    wanted = decisions(source, videos)
    record = compare(bundles, engine, "fp32", data, videos, wanted)
    assert (record.equal_decisions, record.equal_answers) == (1, 1)
    assert record.top1 == np.mean(
        [a == label for (_, a), (_, label) in zip(wanted, videos, strict=True)]
    )
    choice = Bundle(bundles[0]).manifest.plan.choice
    assert choice is not None
    skips = {action.name: action.skip for action in choice.actions}
    taken = Counter(action for actions, _ in wanted for action in actions)
    for step in Bundle(bundles[0]).manifest.plan.steps:
        if step.when is not None:
            assert record.ours.runs[step.graph] == taken[step.when] / 4
    assert any(skips[action] > 1 and count for action, count in taken.items())
    assert record.ours.runs[choice.graph] < 16, "a frame that is skipped costs nothing"
    assert list(record.alone.runs.values()) == [16]
    assert 0 < record.ours.engine_ms < record.ours.ms
    save(record, tmp_path / "record.json")
    assert type(record).model_validate_json((tmp_path / "record.json").read_text()) == record
