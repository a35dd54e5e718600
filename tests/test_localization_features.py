"""Features of untrimmed videos: made, killed, shared; and what localizers find in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movinet_edge.errors import BadInput
from movinet_edge.train.localizing import localizer_start
from movinet_edge.train.recipe import make_recipe
from tests.commands import COMMAND, Command, Refused
from tests.untrimmed import LABELS, asked, small_checkpoint


def test_features_go_on_after_a_kill(untrimmed: Path, call: Command, tmp_path: Path) -> None:
    """Killed at any time, what is there is whole, and the same command completes it."""
    out, again = tmp_path / "features", tmp_path / "again"
    source = small_checkpoint(tmp_path)
    words = ("features", source, "--data", untrimmed, "--videos", untrimmed.parent / "videos")
    words += ("--snippets", "60", "--threads", "1", "--device", "cpu", "--out")
    command = [*COMMAND, *map(str, [*words, out])]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:
        while not list(out.rglob("train*.npy")) and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.npy")}
    assert 1 <= len(before) < 8
    assert all(np.load(path).shape == (60, 128) for path in out.glob("*.npy"))
    subprocess.run(command, check=True, **quiet)
    for name, stamp in before.items():
        assert (out / name).stat().st_mtime_ns == stamp
    assert len(list(out.iterdir())) == 8 + 2  # and nothing half-written
    for k in (1, 2):
        assert call(*words, again, "--shard", f"{k}/2")[0] == 0
    same_features(out, again)


def same_features(one: Path, two: Path) -> None:
    """Those of one process, and those of two shards."""
    for path in one.glob("*.npy"):
        np.testing.assert_array_equal(np.load(path), np.load(two / path.name))
    parts = [json.loads((two / f"index-{k}-of-2.json").read_text())["videos"] for k in (1, 2)]
    assert parts[0] | parts[1] == json.loads((one / "index.json").read_text())["videos"]
    assert all(parts)


def test_two_processes_share_the_videos(untrimmed: Path, extracted: Path) -> None:
    """Under torchrun every process takes a shard."""
    out = extracted / "shared"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", "2", "-m", "movinet_edge", "features"]
    words = (
        extracted / "a.safetensors",
        "--data",
        untrimmed,
        "--videos",
        untrimmed.parent / "videos",
    )
    command += map(str, (*words, "--threads", "1", "--device", "cpu", "--out", out))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    same_features(extracted / "features", out)


def test_videos_and_their_features_evaluate_alike(
    untrimmed: Path, extracted: Path, call: Command, tmp_path: Path
) -> None:
    records = []
    for where in (
        ("--videos", untrimmed.parent / "videos"),
        ("--features", extracted / "features"),
    ):
        path = tmp_path / "record.json"
        words = ["--task", "localization", "--data", untrimmed, *where, "--json", path]
        code, out, err = call("evaluate", extracted / "a.safetensors", *words)
        assert (code, err) == (0, err)
        assert "AR@10" in out
        assert LABELS[0] in out
        records.append(json.loads(path.read_text()))
    assert records[0] == records[1]
    record = records[0]
    assert (record["videos"], record["split"], record["actions"]) == (2, "test", 4)
    assert len(record["activitynet"]["map"]) == 10
    assert set(record["activitynet"]["per_class"]) <= set(LABELS)


def test_what_cannot_be_read_counts_nowhere(
    untrimmed: Path, extracted: Path, call: Command, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(untrimmed.parent / "videos", videos)
    (videos / "train1.mp4").write_bytes(b"no video")
    (videos / "train3.mp4").unlink()
    path, whole = tmp_path / "record.json", tmp_path / "whole.json"
    words = ["--task", "localization", "--data", untrimmed, "--split", "train"]
    source = extracted / "a.safetensors"
    code, _, err = call("evaluate", source, *words, "--videos", videos, "--json", path)
    assert code == 0
    assert err.count("train1 is left out") == 1
    assert "1 annotated videos are not there (train3)" in err
    record = json.loads(path.read_text())
    assert (record["videos"], record["actions"], record["missing"]) == (2, 4, ["train3"])
    # The same as if they were not annotated.
    content = json.loads(untrimmed.read_text())
    content["database"] = {k: content["database"][k] for k in ("train0", "train2")}
    (tmp_path / untrimmed.name).write_text(json.dumps(content))
    words[3] = tmp_path / untrimmed.name
    call("evaluate", source, *words, "--videos", videos, "--json", whole)
    same = ("activitynet", "thumos", "recall", "area", "proposals", "actions")
    other = json.loads(whole.read_text())
    assert [record[key] for key in same] == [other[key] for key in same]


def annotated(path: Path, changes: dict[str, Any]) -> Path:
    """The test split's first video with other segments."""
    entry = {"subset": "test", "duration": 8.0, "annotations": [changes]}
    path.write_text(json.dumps({"database": {"test0": entry}}))
    return path


@pytest.mark.parametrize(
    ("segment", "label", "sentence"),
    [
        ([5.0, 2.0], LABELS[0], "ends before it starts; correct it"),
        ([1.0, 2.0], "jumping", "the class 'jumping' of"),
        ([3.0, 3.0], LABELS[0], "no action is annotated in the 1 videos"),
    ],
)
def test_segments_that_are_refused(
    segment: list[float],
    label: str,
    sentence: str,
    extracted: Path,
    refused: Refused,
    tmp_path: Path,
) -> None:
    path = annotated(tmp_path / "a.json", {"segment": segment, "label": label})
    words = ("--task", "localization", "--data", path, "--features", extracted / "features")
    assert sentence in refused("evaluate", extracted / "a.safetensors", *words)


def test_a_segment_may_end_after_its_video(extracted: Path, call: Command, tmp_path: Path) -> None:
    path = annotated(tmp_path / "a.json", {"segment": [5.0, 9.0], "label": LABELS[0]})
    words = ("--task", "localization", "--data", path, "--features", extracted / "features")
    code, _, err = call("evaluate", extracted / "a.safetensors", *words)
    assert code == 0
    assert "1 segments: end after their videos, kept" in err


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((12, 7), "has 7 features per snippet, not 128"),
        ((128, 12), "features first; transpose it"),
        ((0, 128), "has no snippets"),
    ],
)
def test_features_that_are_refused(
    shape: tuple[int, int],
    sentence: str,
    untrimmed: Path,
    extracted: Path,
    refused: Refused,
    tmp_path: Path,
) -> None:
    np.save(tmp_path / "test0.npy", np.zeros(shape, np.float32))
    words = ("--task", "localization", "--data", untrimmed, "--features", tmp_path)
    assert sentence in refused("evaluate", extracted / "a.safetensors", *words)


def test_fewer_snippets_than_the_head_takes_are_stretched(
    untrimmed: Path, extracted: Path, call: Command, tmp_path: Path
) -> None:
    for name in ("test0", "test1"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).random((3, 128), np.float32))
    words = ("--task", "localization", "--data", untrimmed, "--features", tmp_path)
    code, out, _ = call("evaluate", extracted / "a.safetensors", *words)
    assert code == 0
    assert re.search(r"proposals per video +[\d.]+", out)


def test_what_does_not_belong_together_is_refused(
    untrimmed: Path, extracted: Path, refused: Refused, tmp_path: Path
) -> None:
    source, videos = extracted / "a.safetensors", untrimmed.parent / "videos"
    local = ("--task", "localization", "--data", untrimmed)
    out = ("--out", tmp_path / "run")
    sentences = {
        ("train", *local, *out): "--task localization needs a --stage",
        ("train", "--data", untrimmed, "--config", "S", *out): "--config is of localization",
        ("train", *local, "--stage", "lofi", *out, "--model", "tsm-tiny"): "with --videos",
        ("train", *local, "--stage", "all", *out): "--stage all needs --recipe NAME",
        ("train", *local, "--stage", "head", *out, "--config", "S"): "--config is of stage lofi",
        ("train", *local, "--stage", "acp", *out, "--actions", videos): "--actions is of stage all",
        (
            *("train", *local, "--stage", "all", *out, "--recipe", "motion"),
            *("--features", extracted / "features"),
        ): "makes features by itself",
        (
            *("train", *local, "--stage", "head", *out, "--recipe", "thumos-head"),
            *("--init", source, "--videos", videos),
        ): "takes windows; extract the features with movinet-edge features --every",
        (
            *("train", "--task", "localization", "--data", videos, "--stage", "head", *out),
            *("--features", extracted / "features"),
        ): "annotations",
        ("evaluate", source, *local): "name either the folder of the videos (--videos) or of",
        ("evaluate", source, "--data", videos): "finds segments; add --task localization",
        ("evaluate", source, *local, "--cost-bias", "3"): "leave out --cost-bias",
        (
            "evaluate",
            source,
            "--data",
            untrimmed,
            "--videos",
            videos,
        ): "--videos is of localization",
        (
            "features",
            source,
            "--data",
            untrimmed,
            "--videos",
            videos,
            *out,
            "--shard",
            "3/2",
        ): "I/N",
        (
            "features",
            source,
            "--data",
            untrimmed,
            "--videos",
            tmp_path / "no",
            *out,
        ): "no folder of",
    }
    for words, sentence in sentences.items():
        assert sentence in refused(*words)
    assert not (tmp_path / "run").exists()
    other = make_recipe({"model": "tsm-tiny", "stage": "head", "snippets": 12})
    with pytest.raises(BadInput, match="features have 5 values per snippet"):
        localizer_start(other, LABELS, 5)
    with pytest.raises(BadInput, match="gives no vectors of snippets"):
        localizer_start(make_recipe({"model": "slowfast-tiny", "stage": "lofi"}), LABELS)


def test_a_bundle_evaluates_as_its_checkpoint(
    untrimmed: Path, extracted: Path, call: Command, tmp_path: Path
) -> None:
    source, bundle = extracted / "a.safetensors", tmp_path / "bundle"
    code, _, err = call("export", source, "--out", bundle, "--format", "onnx", "--no-verify")
    assert code == 0, err
    found = []
    for subject in (source, bundle):
        path = tmp_path / "record.json"
        code, _, err = call("evaluate", subject, *asked(untrimmed), "--json", path)
        assert code == 0, err
        found.append(json.loads(path.read_text()))
    assert found[1]["engine"].startswith("onnxruntime")
    for key in ("videos", "actions", "proposals", "detections", "snippets"):
        assert found[0][key] == found[1][key]
    for key in ("activitynet", "thumos"):
        assert found[0][key]["map"] == pytest.approx(found[1][key]["map"], abs=1e-3)
