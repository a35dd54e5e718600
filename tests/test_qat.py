"""Quantization-aware fine-tuning: what it changes, what it leaves, and that it resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from movinet_edge.bundle import Preprocessing
from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.native import Checkpoint, load_checkpoint, save_checkpoint
from movinet_edge.data.listing import VideoSet, read_video_set
from movinet_edge.data.motion import MotionConfig, encode, make_motion
from movinet_edge.data.sources import read_source
from movinet_edge.errors import BadInput
from movinet_edge.export.calibration import calibration_streams
from movinet_edge.export.sensitivity import Analysis
from movinet_edge.models.movinet_quant import attach
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import seeded_model
from movinet_edge.pattern import moving_pattern
from movinet_edge.train.loop import TrainOptions
from movinet_edge.train.parallel import World
from movinet_edge.train.recipe import Recipe, make_recipe, read_recipe
from movinet_edge.train.run_folder import RunFolder
from movinet_edge.train.trainer import Trainer
from tests.commands import Refused
from tests.stopping import Stopped, stop_after
from tests.stretched import stretch

SIDE = 32
COLOURS = {"dark": 40, "light": 200}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of tiny videos, eight to train on and two to validate."""
    root = tmp_path_factory.mktemp("colours")
    for split, count in (("train", 8), ("val", 2)):
        for index in range(count):
            label = ("dark", "light")[index % 2]
            place = root / split / label
            place.mkdir(parents=True, exist_ok=True)
            video = moving_pattern(24, 48, 48, seed=index) // 4 + COLOURS[label]
            encode(video.clip(0, 255).astype(np.uint8), place / f"{index}.mp4", crf=25)
    return root


@pytest.fixture(scope="module")
def videos(folder: Path) -> tuple[VideoSet, VideoSet]:
    source = read_source(folder)
    train = read_video_set(source, "train")
    return train, read_video_set(source, "val", train.labels)


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arch = published_arch("a0", True, classes=2, hidden=16, drop_path=0.0, resolution=SIDE)
    model = seeded_model(arch)
    stretch(model, ["blocks.b1_l0.expand"], 20.0)
    path = tmp_path_factory.mktemp("init") / "init.safetensors"
    contract = Preprocessing(height=SIDE, width=SIDE, frame_rate=5.0)
    save_checkpoint(Checkpoint(model, contract, ["dark", "light"]), path)
    return path


def recipe(init: Path, **changes: object) -> Recipe:
    fields = {"init": str(init), "qat": True, "frames": 4, "batch": 4, "epochs": 2, "lr": 1e-3}
    return make_recipe(fields | {"qat_batches": 2, "ema": 0.5} | changes)


def trainer(recipe: Recipe, videos: tuple[VideoSet, VideoSet], place: Path) -> Trainer:
    world, options = World(0, 1, torch.device("cpu")), TrainOptions(save_every=1, log_every=1)
    place.mkdir(parents=True, exist_ok=True)
    return Trainer(recipe, *videos, RunFolder(place), world, options)


@pytest.fixture(scope="module")
def finished(
    init: Path, videos: tuple[VideoSet, VideoSet], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    place = tmp_path_factory.mktemp("runs") / "finished"
    record = trainer(recipe(init), videos, place).run(lambda now: None)
    assert record is not None
    assert record.videos == 2
    return place


def weights(place: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(place / "last.safetensors").model.state_dict()


def test_checkpoints_are_plain_and_statistics_kept(finished: Path, init: Path) -> None:
    before, after = load_checkpoint(init).model.state_dict(), weights(finished)
    assert list(after) == list(before)
    for name, value in after.items():
        if "running_" in name:
            assert torch.equal(value, before[name]), name
    assert any(not torch.equal(v, before[k]) for k, v in after.items())


def test_a_stopped_run_resumes_to_the_same_weights(
    finished: Path, init: Path, videos: tuple[VideoSet, VideoSet], tmp_path: Path
) -> None:
    first = trainer(recipe(init), videos, tmp_path)
    with pytest.raises(Stopped):
        first.run(stop_after(3))
    second = trainer(recipe(init), videos, tmp_path)
    second.resume()
    assert second.step == 2, "step 3 was not saved"
    second.run(lambda now: None)
    expected = weights(finished)
    assert all(torch.equal(v, expected[k]) for k, v in weights(tmp_path).items())
    states = [torch.load(p / "state.pt", weights_only=True)["int8"] for p in (finished, tmp_path)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


def test_rounding_begins_when_the_recipe_says(
    init: Path, videos: tuple[VideoSet, VideoSet], tmp_path: Path
) -> None:
    losses: list[list[float]] = []
    for name, changes in (
        ("float", {"qat": False, "freeze_norm": True}),
        ("later", {"qat_after": 2, "spread": 0}),
    ):
        run = trainer(recipe(init, epochs=1, **changes), videos, tmp_path / name)
        losses.append([])
        run.run(lambda now: losses[-1].append(now.loss))
        assert run.step == 2
    assert losses[0] == losses[1]
    run = trainer(recipe(init, epochs=1, spread=0), videos, tmp_path / "now")
    seen: list[float] = []
    run.run(lambda now: seen.append(now.loss))
    assert seen[0] != losses[0][0]
    assert seen[0] == pytest.approx(losses[0][0], abs=0.5)


def test_channels_that_stick_out_are_shrunk(init: Path) -> None:
    clip = torch.from_numpy(moving_pattern(6, SIDE, SIDE).copy()).permute(0, 3, 1, 2)[None] / 255
    model = load_checkpoint(init).model
    with torch.no_grad():
        instrument = attach(model)
        instrument.watch("all")
        before = model(clip)[0]
        high = instrument.sites["blocks.b1_l0.expand"].before.high.clone()
        shrunk = instrument.even(6.0)
        assert not instrument.seen
        assert shrunk["blocks.b1_l0.expand"] == 2
        after = model(clip)[0]
        lower = instrument.sites["blocks.b1_l0.expand"].before.high
        limit = 6 * high.clamp_min(3).median()
        torch.testing.assert_close(lower[:2], limit.expand(2), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(lower[2:], high[2:])
        # Nearly the same function.
        assert (after - before).norm() < 0.3 * (before - before.mean(1)).norm() + 0.1
        assert "blocks.b1_l0.expand" not in instrument.even(6.0)


def test_shrinking_is_exact_where_hard_swish_is_linear() -> None:
    model = seeded_model(published_arch("a0", True, classes=3, hidden=16))
    block = model.get_submodule("b1.l0")
    with torch.no_grad():
        norm = block.expand.norm
        norm.weight.mul_(0.1)
        norm.bias.fill_(60.0)  # everything is far above 3, before and after
        norm.bias[:3] = 600.0
    clip = torch.rand(1, 4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    instrument = attach(model)
    instrument.watch("all")
    with torch.no_grad():
        before = model(clip)[0]
        peaks = instrument.sites["blocks.b1_l0.expand"].before.high
        for site in instrument.sites.values():
            if site.before.high is not peaks:
                site.before.high.fill_(3.0)  # leave the others alone
        assert instrument.even(5.0) == {"blocks.b1_l0.expand": 3}
        torch.testing.assert_close(model(clip)[0], before, atol=1e-4, rtol=1e-4)


def test_the_penalty_reaches_the_loss(
    init: Path, videos: tuple[VideoSet, VideoSet], tmp_path: Path
) -> None:
    # A spread of 2 leaves something to the penalty: shrunk channels reach further in other clips.
    losses = []
    for penalty in (0.0, 10.0):
        changes = {"range_penalty": penalty, "spread": 2.0, "epochs": 1, "subclips": 2}
        run = trainer(recipe(init, **changes), videos, tmp_path / str(penalty))
        found: list[float] = []
        run.run(lambda now, found=found: found.append(now.loss))
        losses.append(found[0])
        assert all(np.isfinite(found))
    assert losses[1] > losses[0]


def test_frozen_norms_do_not_move(
    init: Path, videos: tuple[VideoSet, VideoSet], tmp_path: Path
) -> None:
    run = trainer(recipe(init, epochs=1), videos, tmp_path)
    run.run(lambda now: None)
    norms = [m for m in run.bare.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)


def test_impossible_recipes_are_refused() -> None:
    with pytest.raises(BadInput, match="init"):
        make_recipe({"model": "a0-stream", "qat": True})
    with pytest.raises(BadInput, match="range_penalty"):
        make_recipe({"model": "a0-stream", "range_penalty": 1.0})


def test_the_command_takes_qat(refused: Refused, folder: Path, tmp_path: Path) -> None:
    said = refused(
        *("train", "--data", folder, "--out", tmp_path / "run", "--device", "cpu"),
        *("--model", "a0-stream", "--qat"),
    )
    assert "init" in said


STRETCHED = ("blocks.b0_l0.expand", "blocks.b1_l0.spatial", "blocks.b2_l0.temporal")


@pytest.mark.slow
def test_fine_tuning_cures_what_plain_int8_ruins(tmp_path: Path) -> None:
    """The shipped checkpoint with channels that stick out; a few steps, exported as it is."""
    folder = tmp_path / "videos"
    make_motion(MotionConfig(per_class=10, size=80, seed=5), folder, jobs=2)
    ruined = read_checkpoint(Path("motion-a0-stream"))
    stretch(ruined.model, STRETCHED, 40.0, channels=3)
    init = tmp_path / "init.safetensors"
    save_checkpoint(ruined, init)
    source = read_source(folder)
    train = read_video_set(source, "train")
    sets = train, read_video_set(source, "val", train.labels)
    fields = {"init": str(init), "qat": True, "epochs": 1, "lr": 1e-4, "size": None, "ema": 0.0}
    trainer(read_recipe("motion-a0-stream", fields), sets, tmp_path / "run").run(lambda now: None)
    cured = load_checkpoint(tmp_path / "run" / "last.safetensors")
    streams = calibration_streams(folder / "test", cured.preprocessing, 120)
    before, after = (Analysis(checkpoint, streams).plain for checkpoint in (ruined, cured))
    assert before.snr_db < 10
    assert after.snr_db > before.snr_db + 8
    assert after.agreement > 0.9
