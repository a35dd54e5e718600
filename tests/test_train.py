"""Training: stream buffers against whole clips, memory, resuming, many processes, transfer."""

from __future__ import annotations

import csv
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from movinet_edge.checkpoints.native import load_checkpoint
from movinet_edge.data.motion import encode
from movinet_edge.errors import BadInput
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import seeded_model
from movinet_edge.pattern import moving_pattern
from movinet_edge.train.memory import peak_memory
from movinet_edge.train.recipe import make_recipe, read_recipe, shipped_recipes
from movinet_edge.train.run_folder import RunFolder
from movinet_edge.train.subclips import clip_backward
from movinet_edge.train.transfer import starting_point
from tests.commands import Command

SIDE = 32


def small_model(causal: bool = True) -> nn.Module:
    arch = published_arch("a0", causal, classes=3, hidden=16, drop_path=0.0, dropout=0.0)
    return seeded_model(arch)


def clip_of(frames: int, batch: int = 2) -> torch.Tensor:
    videos = [moving_pattern(frames, SIDE, SIDE, seed) for seed in range(batch)]
    return torch.from_numpy(np.stack(videos)).permute(0, 1, 4, 2, 3).float() / 255


LABELS = torch.tensor([0, 2])


def gradients(subclips: int, keep: bool) -> dict[str, torch.Tensor]:
    """Of losses at frames 2, 4, 6 and 8, however the clip is cut."""
    model = small_model().double()
    clip = clip_of(8).double()
    if subclips == 1:
        logits, _ = model(clip)
        ends = logits[:, 1::2].flatten(0, 1)
        nn.functional.cross_entropy(ends, LABELS.repeat_interleave(4)).backward()
    else:
        clip_backward(model, clip, LABELS, subclips, keep)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_kept_gradients_equal_those_of_the_whole_clip() -> None:
    whole, cut = gradients(1, True), gradients(4, True)
    assert whole.keys() == cut.keys()
    for name, expected in whole.items():
        # Layers in front of a rezero of 0 would have none.
        assert expected.norm() > 0, name
        assert (cut[name] - expected).norm() <= 1e-4 * expected.norm(), name


def test_stopped_gradients_are_others() -> None:
    whole, cut = gradients(1, True), gradients(4, False)
    stem = "stem.conv.weight"
    assert (cut[stem] - whole[stem]).norm() > 1e-3 * whole[stem].norm()


def test_the_answer_does_not_depend_on_the_cut() -> None:
    answers = []
    for subclips in (1, 2, 4, 8):
        model = small_model()
        _, answer = clip_backward(model, clip_of(8), LABELS, subclips)
        answers.append(answer)
    for other in answers[1:]:
        torch.testing.assert_close(other, answers[0], atol=1e-5, rtol=0)


def peak(frames: int, subclips: int, keep: bool = False) -> int:
    model, clip = small_model().train(), clip_of(frames, 1)
    clip_backward(model, clip[:, :4], LABELS[:1])  # gradients exist from now on
    return peak_memory(lambda: clip_backward(model, clip, LABELS[:1], subclips, keep))


def test_memory_does_not_grow_with_the_clip() -> None:
    short, long = peak(4, 1), peak(32, 8)
    assert abs(long - short) < 0.1 * short
    assert peak(32, 1) > 4 * short
    assert peak(32, 8, keep=True) > 4 * short


def test_uneven_cuts_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        clip_backward(small_model(), clip_of(5), LABELS, 2)


# Whole runs, as a user starts them.

COLOURS = {"dark": 40, "light": 200}


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of tiny videos, eight to train on and four to validate."""
    root = tmp_path_factory.mktemp("colours")
    for split, count in (("train", 8), ("val", 4)):
        for index in range(count):
            label = ("dark", "light")[index % 2]
            folder = root / split / label
            folder.mkdir(parents=True, exist_ok=True)
            video = moving_pattern(24, 48, 48, seed=index) // 4 + COLOURS[label]
            encode(video.clip(0, 255).astype(np.uint8), folder / f"{index}.mp4", crf=25)
    return root


SMALL = "--model a0-stream --set hidden=16 --size 32 --frames 4 --batch 4 --epochs 3 --threads 1"


def train(*words: str | Path, processes: int = 1) -> subprocess.CompletedProcess[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    start = [sys.executable, *(torchrun if processes > 1 else []), "-m", "movinet_edge"]
    arguments = [*start, "train", "--workers", "0", "--device", "cpu", *map(str, words)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)


def log(run: Path, name: str = "log.csv") -> list[dict[str, str]]:
    with (run / name).open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "finished"
    words = [*SMALL.split(), "--set", "ema=0.9", "--log-every", "1"]
    result = train("--data", colours, "--out", run, *words)
    assert result.returncode == 0, result.stderr
    return run


def test_a_run_leaves_checkpoints_logs_and_no_litter(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    files = {"best.safetensors", "last.safetensors", "state.pt", "run.json"}
    assert names == files | {"log.csv", "epochs.csv", "tensorboard"}
    checkpoint = load_checkpoint(finished / "best.safetensors")
    assert checkpoint.labels == ["dark", "light"]
    assert (checkpoint.preprocessing.height, checkpoint.arch.classes) == (32, 2)
    assert [row["step"] for row in log(finished)] == ["1", "2", "3", "4", "5", "6"]
    assert [row["epoch"] for row in log(finished, "epochs.csv")] == ["0", "1", "2"]
    assert all(0 <= float(row["val_top1"]) <= 1 for row in log(finished, "epochs.csv"))
    assert any((finished / "tensorboard").iterdir())


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "last.safetensors").model.state_dict()


def test_a_killed_run_resumes_to_the_same_weights(
    finished: Path, colours: Path, tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    words = [*SMALL.split(), "--set", "ema=0.9", "--log-every", "1", "--save-every", "1"]
    command = ["train", "--data", colours, "--out", run, "--workers", "0", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "movinet_edge", *map(str, command), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "log.csv").exists() and len(log(run)) >= 3:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 3 <= len(log(run)) < 6, "it was to be killed in the middle"
    result = train("--out", run, "--resume", "--threads", "1", "--log-every", "1")
    assert result.returncode == 0, result.stderr
    expected = weights(finished)
    for name, value in weights(run).items():
        assert torch.equal(value, expected[name]), name
    for name in ("log.csv", "epochs.csv"):
        figures = [(row["step"], row["loss"]) for row in log(run, name)]
        assert figures == [(row["step"], row["loss"]) for row in log(finished, name)]


def test_workers_do_not_change_the_weights(finished: Path, colours: Path, tmp_path: Path) -> None:
    words = [*SMALL.split(), "--set", "ema=0.9", "--workers", "2"]
    result = train("--data", colours, "--out", tmp_path / "run", *words)
    assert result.returncode == 0, result.stderr
    expected = weights(finished)
    assert all(torch.equal(v, expected[k]) for k, v in weights(tmp_path / "run").items())


def test_two_processes_learn_like_one(colours: Path, tmp_path: Path) -> None:
    words = [*SMALL.split(), "--log-every", "1", "--subclips", "2"]
    words += ["--set", "dropout=0.0", "--set", "drop_path=0.0"]
    one = train("--data", colours, "--out", tmp_path / "one", *words)
    assert one.returncode == 0, one.stderr
    two = train("--data", colours, "--out", tmp_path / "two", *words, processes=2)
    assert two.returncode == 0, two.stderr
    ones, twos = log(tmp_path / "one"), log(tmp_path / "two")
    assert len(ones) == len(twos) == 6
    for a, b in zip(ones, twos, strict=True):
        assert float(b["loss"]) == pytest.approx(float(a["loss"]), rel=0.01)
    tops = [log(tmp_path / name, "epochs.csv")[-1]["val_top1"] for name in ("one", "two")]
    assert tops[0] == tops[1]


def test_a_new_head_keeps_the_body(finished: Path, colours: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for split in ("train", "val"):
        for label, name in (("dark", "night"), ("light", "noon")):
            (other / split).mkdir(parents=True, exist_ok=True)
            os.symlink(colours / split / label, other / split / name)
    words = "--frames 4 --batch 4 --epochs 1 --threads 1 --freeze backbone --set freeze_norm=true"
    init = finished / "best.safetensors"
    run = tmp_path / "run"
    result = train("--data", other, "--out", run, "--init", init, *words.split())
    assert result.returncode == 0, result.stderr
    assert load_checkpoint(run / "best.safetensors").labels == ["night", "noon"]
    before = load_checkpoint(init).model.state_dict()
    for name, value in weights(run).items():
        learned = name.startswith("head.") and ".running_" not in name
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, before[name]) != learned, name


def test_a_base_model_trains_in_mixed_precision_beside_a_broken_video(
    colours: Path, tmp_path: Path
) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(colours, data)
    (data / "train" / "dark" / "broken.mp4").write_bytes(b"no video")
    words = f"{SMALL.replace('stream', 'base')} --precision bf16 --set channels_last=true"
    result = train("--data", data, "--out", run, "--cache", tmp_path / "cache", *words.split())
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("broken.mp4") == 1
    assert [row["skipped_videos"] for row in log(run, "epochs.csv")] == ["1", "1", "1"]
    checkpoint = load_checkpoint(run / "best.safetensors")
    assert (checkpoint.arch.causal, checkpoint.arch.clip_frames) == (False, 4)


def test_validation_elsewhere_is_remembered(colours: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*SMALL.split(), "--epochs", "1", "--val", str(colours)]
    assert train("--data", colours / "train", "--out", run, *words).returncode == 0
    (run / "state.pt").unlink()  # as if killed before the first save
    result = train("--out", run, "--resume", "--threads", "1")
    assert result.returncode == 0, result.stderr
    (row,) = log(run, "epochs.csv")
    assert 0 <= float(row["val_top1"]) <= 1


def test_the_order_of_classes_does_not_cost_the_head(finished: Path) -> None:
    init = finished / "best.safetensors"
    before = load_checkpoint(init)
    recipe = make_recipe({"init": str(init)})
    after = starting_point(recipe, ["light", "dark"])
    clip = clip_of(4)
    with torch.no_grad():
        torch.testing.assert_close(after.model(clip)[0].flip(-1), before.model(clip)[0])


def test_recipes_extend_files_beside_them(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "base.toml"\nlr = 0.5\n')
    (tmp_path / "base.toml").write_text('extends = "motion-a0-stream"\nlr = 0.25\nbatch = 2\n')
    recipe = read_recipe(str(tmp_path / "mine.toml"), {"epochs": 7})
    shipped = read_recipe("motion-a0-stream", {})
    assert recipe == shipped.model_copy(update={"lr": 0.5, "batch": 2, "epochs": 7})
    recipes = [read_recipe(name, {}) for name in shipped_recipes()]
    assert all(recipe.model or recipe.stage == "head" for recipe in recipes)


Refusal = Callable[..., None]


@pytest.fixture
def refused(call: Command) -> Refusal:
    """``refused(words of the command, *what the sentence says)``: exit 2 and one sentence."""

    def check(words: Sequence[str | Path], *texts: str) -> None:
        code, _, err = call("train", *words)
        last = err.strip().splitlines()[-1]
        assert code == 2, last
        assert last.startswith("error: ")
        assert all(text in last for text in texts), last

    return check


def test_bad_input_is_one_sentence(
    refused: Refusal, finished: Path, colours: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    new = ["--device", "cpu", "--workers", "0", "--data", colours, "--out", out]
    small = [*new, *SMALL.split()]
    init = finished / "best.safetensors"
    refused([*small, "--out", finished], "exists already", "--resume")
    refused(["--out", out, *SMALL.split()], "--data")
    refused(new, "which model")
    refused(["--out", out, "--resume"], "no training run")
    refused(["--out", finished, "--resume", "--lr", "0.5"], "another recipe", "lr 0.001 -> 0.5")
    refused([*small, "--subclips", "3"], "cannot be cut")
    refused([*small, "--set", "lrr=3"], "lrr")
    refused([*small, "--set", "crop_ratio=[2, 1]"], "crop_ratio", "smaller one first")
    refused([*small, "--set", "nonsense"], "KEY=VALUE")
    refused([*new, "--model", "a9-stream"], "unknown model")
    refused([*new, "--recipe", "nope"], "no recipe nope")
    refused([*new, "--recipe", init], "no readable TOML")
    refused([*small, "--freeze", "b9"], "b9")
    refused([*new, "--init", init, "--model", "a1-stream"], "movinet-a0-stream, not a")
    refused([*small, "--data", colours / "train" / "dark"], "dark")
    (tmp_path / "one").mkdir()
    os.symlink(colours / "train" / "dark", tmp_path / "one" / "dark")
    refused([*small, "--data", tmp_path / "one"], "one class")
    refused([*small, "--device", "tpu"], "tpu")
    refused(
        ["--out", finished, "--resume", "--data", colours / "val", "--device", "cpu"],
        "other videos",
    )
    assert not out.exists()


def test_unusable_videos_are_one_sentence(refused: Refusal, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for label in ("a", "b"):
        (data / label).mkdir(parents=True)
        still = moving_pattern(1, 48, 48, seed=0)
        encode(still, data / label / "still.mp4", crf=25)
    words = ["--device", "cpu", "--workers", "0", "--data", data, "--out", tmp_path / "run"]
    refused([*words, *SMALL.split()], "one frame")
    (data / "c").mkdir()
    refused([*words, *SMALL.split(), "--out", tmp_path / "other"], "has no videos")


def test_a_full_disk_keeps_the_last_good_checkpoint(finished: Path) -> None:
    folder = RunFolder(finished)
    before = {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    state, checkpoint = folder.state(), load_checkpoint(finished / "best.safetensors")
    assert state is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # writes fail in the middle
    try:
        with pytest.raises(BadInput, match=r"not written.*kept.*--resume"):
            folder.save_state(state)
        with pytest.raises(BadInput, match="cannot be written"):
            folder.save_checkpoint(checkpoint, "best.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before
