"""Stages of localization training: resumed bit for bit, learning, memory."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movinet_edge.checkpoints.native import Checkpoint, load_checkpoint, save_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.models.localizer import Localizer
from movinet_edge.train import dry_run
from movinet_edge.train.dry_run import fitted, step_bytes, step_need
from movinet_edge.train.fidelity import Fidelity, fidelity
from movinet_edge.train.localization_data import (
    Places,
    localization_trainer,
)
from movinet_edge.train.localizing import LocalizationTrainer, localizer_start
from movinet_edge.train.loop import TrainOptions
from movinet_edge.train.recipe import Recipe, make_recipe
from movinet_edge.train.run_folder import LAST, RunFolder, RunRecord
from tests.commands import Command, Refused
from tests.stopping import Stopped, stop_after
from tests.untrimmed import HERE, LABELS, SMALL, asked, recipe


def begin(one: Recipe, untrimmed: Path, out: Path, **options: Any) -> LocalizationTrainer:
    folder = RunFolder(out)
    places = Places(untrimmed, untrimmed.parent / "videos")
    trainer = localization_trainer(one, places, folder, HERE, TrainOptions(**options))
    assert isinstance(trainer, LocalizationTrainer)
    if not (out / "run.json").exists():
        folder.begin(RunRecord(recipe=one, data=str(untrimmed)))
    return trainer


@pytest.mark.parametrize(
    ("stage", "changes"),
    [("lofi", {"config": "cycle-long"}), ("head", {"optimizer": "adam", "ema": 0.5})],
)
def test_a_stopped_run_arrives_at_the_same_weights(
    stage: str, changes: dict[str, Any], untrimmed: Path, tmp_path: Path
) -> None:
    encoder = tmp_path / "encoder.safetensors"
    save_checkpoint(localizer_start(recipe("lofi"), LABELS), encoder)
    one = recipe(stage, init=str(encoder), **changes)
    begin(one, untrimmed, tmp_path / "whole").run(lambda now: None)
    stopped = begin(one, untrimmed, tmp_path / "stopped", save_every=1)
    with pytest.raises(Stopped):
        stopped.run(stop_after(4))
    resumed = begin(one, untrimmed, tmp_path / "stopped", save_every=1)
    resumed.resume()
    assert resumed.step == 3
    resumed.run(lambda now: None)
    whole, again = (load_checkpoint(tmp_path / n / LAST).model for n in ("whole", "stopped"))
    assert isinstance(whole, Localizer)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    logs = [(tmp_path / n / "epochs.csv").read_text() for n in ("whole", "stopped")]
    assert logs[0] == logs[1]
    assert "val_map" in logs[0]
    start = localizer_start(one, LABELS).model.state_dict()
    moved = {n for n, v in whole.state_dict().items() if not torch.equal(v, start[n])}
    seen = any(name.startswith("encoder.") for name in moved)
    assert seen == (stage == "lofi")
    assert not any(name.startswith("encoder.head") for name in moved)


def test_no_step_sees_a_video_in_full(
    untrimmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = begin(recipe("lofi", config="cycle-long"), untrimmed, tmp_path / "run")
    sizes: list[tuple[int, ...]] = []
    learn = trainer._learn

    def spy(batch: Any) -> Any:
        frames = trainer.augments[batch.number](batch.clips)
        sizes.append((batch.snippets, frames.shape[1] // batch.snippets, frames.shape[-1]))
        return learn(batch)

    monkeypatch.setattr(trainer, "_learn", spy)
    trainer.run(lambda now: None)
    # S, T and ST, an epoch of two batches each, of 12 snippets of 32 pixels.
    assert sizes == [(12, 8, 16)] * 2 + [(3, 8, 32)] * 2 + [(6, 8, 23)] * 2


def test_a_head_learns_where_actions_are(tmp_path: Path) -> None:
    """From features that tell it: the class, and nothing elsewhere."""
    folder = tmp_path / "features"
    folder.mkdir()
    rng = np.random.default_rng(0)
    database = {}
    for number in range(52):
        values = rng.normal(0, 0.1, (24, 4)).astype(np.float32)
        annotations = []
        for first in (0, 12):
            start, label = first + int(rng.integers(1, 5)), int(rng.integers(2))
            end = start + int(rng.integers(3, 7))
            values[start:end, label] += 2
            annotations.append({"segment": [start, end], "label": LABELS[label]})
        split = "train" if number < 48 else "val"
        entry = {"subset": split, "duration": 24, "annotations": annotations}
        database[f"video{number}"] = entry
        np.save(folder / f"video{number}.npy", values)
    data = tmp_path / "segments.json"
    data.write_text(json.dumps({"database": database}))
    made = SMALL | {"stage": "head", "model": None, "snippets": 24, "epochs": 5, "batch": 4}
    one = make_recipe(made | {"optimizer": "adam", "lr": 2e-3, "clip_norm": 10.0})
    run = RunFolder(tmp_path / "run")
    trainer = localization_trainer(one, Places(data, None, folder), run, HERE, TrainOptions())
    run.begin(RunRecord(recipe=one, data=str(data)))
    record = trainer.run(lambda now: None)
    assert record is not None
    assert record.score_name == "average mAP"
    assert record.score > 0.3


def test_memory_grows_by_the_video(untrimmed: Path) -> None:
    one = recipe("lofi", batch=4)
    start = localizer_start(one, LABELS)
    plan = fidelity("ST")
    need = step_need(start, one, plan, 4, HERE.device)
    measured = step_bytes(start, one, plan, 4, HERE.device)
    assert need.bytes == pytest.approx(measured, rel=0.03)
    assert step_bytes(start, one, fidelity("2x2"), 2, HERE.device) < measured


def test_a_budget_chooses_the_reduction(untrimmed: Path) -> None:
    one = recipe("lofi", config="S", size=64, snippets=48)
    start = localizer_start(one, LABELS)
    needs = {
        reduction: step_need(start, one, fidelity("S", reduction), 2, HERE.device).bytes / 1e9
        for reduction in (4.0, 8.0)
    }
    assert needs[8.0] < needs[4.0]
    said: list[str] = []
    between = (needs[4.0] + needs[8.0]) / 2
    for budget, reduction in ((None, 4.0), (needs[4.0] * 1.01, 4.0), (between, 8.0)):
        assert fitted(one, start, 2, HERE.device, budget, said.append).reduction == reduction
    assert re.fullmatch(r"S: 48 snippets of 32 pixels, 2 videos: \d+\.\d\d GB", said[0])
    with pytest.raises(BadInput, match=r"S does not fit into 0\.01 GB: reduced by 64 it needs"):
        fitted(one, start, 2, HERE.device, 0.01, said.append)


def test_a_device_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its allocator refuses the step; a budget finds a reduction that it has room for."""

    def refuses(start: Checkpoint, recipe: Recipe, plan: Fidelity, *others: object) -> int:
        if plan.side(64) > 32:
            raise torch.OutOfMemoryError
        return 10**9

    monkeypatch.setattr(dry_run, "step_bytes", refuses)
    one = recipe("lofi", config="S", size=64, snippets=48, reduction=2.0)
    start = localizer_start(one, LABELS)
    said: list[str] = []
    with pytest.raises(BadInput, match=r"S does not fit into the memory of cpu.*--memory-budget"):
        fitted(one, start, 1, HERE.device, None, said.append)
    assert said == ["S: 48 snippets of 45 pixels, 1 videos: too much"]
    assert fitted(one, start, 1, HERE.device, 2.0, said.append).reduction == 4.0


def test_frames_come_at_the_rate_of_the_recipe() -> None:
    start = localizer_start(recipe("lofi", frame_rate=5.0), LABELS)
    assert start.preprocessing.frame_rate == 5.0


def test_stages_go_on_as_they_began(
    untrimmed: Path, call: Command, refused: Refused, tmp_path: Path
) -> None:
    """All three in a row; the same command again trains nothing, another one is refused."""
    for stage in ("acp", "lofi", "head"):
        fields = {"extends": f"motion-{stage}", "epochs": 1, "size": 32, "short_side": 36}
        lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
        (tmp_path / f"quick-{stage}").write_text("\n".join([*lines, "snippets = 12"]))
    run = tmp_path / "run"
    words = ["train", *asked(untrimmed)]
    words += ["--stage", "all", "--recipe", tmp_path / "quick", "--workers", "0", "--out", run]
    code, out, err = call(*words)
    assert code == 0, err
    assert out.count("wrote ") == 3
    weights = (run / "head" / "best.safetensors").read_bytes()
    code, out, err = call(*words)
    assert code == 0, err
    assert err.count(" is done") == 3
    assert (run / "head" / "best.safetensors").read_bytes() == weights
    assert "the run began with another recipe (lr" in refused(*words, "--lr", "0.1")
