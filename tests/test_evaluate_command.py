"""The command ``evaluate``: its record, its options, what it refuses, and many processes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.cli.evaluate import limited
from movinet_edge.data.listing import VideoSet
from movinet_edge.models.movinet import MoViNet
from movinet_edge.train.evaluate import EvalRecord
from tests.commands import Command, refusal
from tests.evaluation import LABELS, contract, seeded

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(call: Command) -> Command:
    """``run("CKPT", "--data", ...)`` -> exit code, stdout, stderr."""
    return partial(call, "evaluate")


def test_the_command(
    run: Command, stream_checkpoint: Path, video_folder: Path, tmp_path: Path, streamed: EvalRecord
) -> None:
    """The default split is ``test``, the default protocol ``stream``."""
    target = tmp_path / "record.json"
    target.write_text("old")
    (tmp_path / "other.json").write_text("mine")
    code, out, err = run(
        stream_checkpoint, "--data", video_folder, "--workers", 0, "--json", target
    )
    assert code == 0, err
    found = json.loads(target.read_text())
    assert found["ms_per_frame"] > 0
    assert found | {"ms_per_frame": None} == json.loads(streamed.to_json())
    assert found["splits"] == ["test"]
    assert found["videos"] == 7
    assert len(found["confusion"]) == len(found["per_class"]) == len(found["labels"]) == 6
    assert f"{streamed.top1:.1%}" in out
    for word in ("top-1", "top-5", "MACs per video", "peak memory", "stream: every frame once"):
        assert word in out
    assert err.splitlines()[-1] == "evaluate: 7 of 7"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.json", "record.json"]


def test_options_reach_the_record(
    run: Command, stream_checkpoint: Path, video_folder: Path, tmp_path: Path
) -> None:
    def record(*options: str | int) -> dict[str, Any]:
        path = tmp_path / "x.json"
        common = (stream_checkpoint, "--data", video_folder, "--workers", 0, "--json", path)
        code, _, err = run(*common, *options)
        assert code == 0, err
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    clip = record("--protocol", "clip", "--frames", 1, "--shuffle", "--seed", 3, "--limit", 4)
    assert (clip["protocol"], clip["frames"], clip["clips"], clip["seed"]) == ("clip", 1, 1, 3)
    assert clip["videos"] == 4
    many = record("--protocol", "multi-clip", "--frames", 4, "--clips", 3, "--limit", 2)
    assert (many["protocol"], many["frames"], many["clips"]) == ("multi-clip", 4, 3)
    assert many["seed"] is None
    other = record("--split", "train", "--threads", 1, "--device", "cpu")
    assert other["videos"] == 1


def test_a_limit_is_spread_evenly(videos: VideoSet) -> None:
    seven = videos.videos
    assert limited(videos, None) is videos
    assert limited(videos, 7) is videos
    assert limited(videos, 3).videos == (seven[0], seven[2], seven[4])
    assert limited(videos, 1).videos == seven[:1]


def test_classes_are_mapped_by_name(
    run: Command, stream_model: MoViNet, streamed: EvalRecord, video_folder: Path, tmp_path: Path
) -> None:
    """The labels of a checkpoint come in the order of its outputs, whatever that is."""
    turned = LABELS[2:] + LABELS[:2]
    path, target = tmp_path / "a0.safetensors", tmp_path / "x.json"
    save_checkpoint(Checkpoint(stream_model, contract(stream_model), turned), path)
    assert run(path, "--data", video_folder, "--workers", 0, "--json", target)[0] == 0
    found = json.loads(target.read_text())
    assert found["labels"] == turned
    rows = [streamed.confusion[LABELS.index(label)] for label in turned]
    assert found["confusion"] == [list(row) for row in rows]


def test_videos_that_are_skipped_are_named_once(
    run: Command, stream_checkpoint: Path, video_folder: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad [red].mp4"
    bad.write_text("no video")
    lines = [f"{video_folder / 'test' / 'bake' / '0.mp4'} bake", f"{bad} cut", "gone.mp4 dig"]
    source = tmp_path / "list.txt"
    source.write_text("\n".join(lines) + "\n")
    code, _, err = run(stream_checkpoint, "--data", source, "--workers", 0)
    assert code == 0, err
    notes = [line for line in err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 2
    assert notes[0].startswith(f"note: {bad} is left out: ")
    assert notes[1] == f"note: 1 videos that {source} names are not there"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--frames", "4"], "a stream sees every frame; --frames needs --protocol clip, multi-"),
        (["--clips", "4"], "--clips needs --protocol multi-clip"),
        (["--protocol", "clip", "--clips", "4"], "--clips needs --protocol multi-clip"),
        (["--backend", "litert"], "--backend is for bundles; leave it out"),
        (["--split", "holdout"], "has no split 'holdout'"),
        (["--json", "."], ". is a directory; name a file"),
        (["--json", "missing/x.json"], "missing/x.json cannot be written"),
        (["--protocol", "clips"], "Invalid value for '--protocol'"),
        (["--frames", "0"], "Invalid value for '--frames'"),
        (["--workers", "-1"], "Invalid value for '--workers'"),
        (["--limit", "0"], "Invalid value for '--limit'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use(
    run: Command,
    stream_checkpoint: Path,
    video_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refusal(run(stream_checkpoint, "--data", video_folder, *options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(run: Command, stream_checkpoint: Path, video_folder: Path) -> None:
    said = refusal(run(stream_checkpoint, "--data", video_folder, "--device", "cuda"))
    assert said.endswith("; use --device cpu")


def test_classes_that_do_not_fit(run: Command, video_folder: Path, tmp_path: Path) -> None:
    three, path = seeded(classes=3), tmp_path / "three.safetensors"
    save_checkpoint(Checkpoint(three, contract(three)), path)
    said = refusal(run(path, "--data", video_folder))
    assert "has 6 classes and movinet-a0-stream 3" in said
    save_checkpoint(Checkpoint(three, contract(three), LABELS[:3]), path)
    said = refusal(run(path, "--data", video_folder))
    assert any(f"{label!r}" in said or f" {label}" in said for label in LABELS[3:]), said


def test_all_videos_broken(run: Command, stream_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for label in LABELS:
        (tmp_path / "data" / label).mkdir()
        (tmp_path / "data" / label / "x.mp4").write_text("no video")
    target = tmp_path / "x.json"
    target.write_text("old")
    arguments = stream_checkpoint, "--data", tmp_path / "data", "--workers", 0, "--json", target
    assert "none of the 6 videos" in refusal(run(*arguments))
    assert target.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "x.json"]


# Many processes ----------------------------------------------------------------------------

# Each argument is a command line.
SCRIPT = """
import shlex
import sys
from movinet_edge.cli.main import main
from movinet_edge.train.parallel import world
with world("cpu"):
    for line in sys.argv[1:]:
        sys.argv = ["movinet-edge", *shlex.split(line)]
        try:
            main()
        except SystemExit as left:
            assert not left.code, line
"""


@pytest.mark.timeout(120)
def test_two_processes_count_as_one(
    run: Command, stream_checkpoint: Path, videos: VideoSet, tmp_path: Path
) -> None:
    """Seven videos and a broken one; and fewer videos than processes."""
    bad, script = tmp_path / "bad.mp4", tmp_path / "script.py"
    bad.write_text("no video")
    script.write_text(SCRIPT)
    rows = [f"{v.path} {LABELS[v.labels[0]]}" for v in videos.videos]
    lists = {"many": [*rows[:5], f"{bad} dig", *rows[5:]], "one": rows[:1]}
    commands = []
    for name, lines in lists.items():
        source = tmp_path / f"{name}.txt"
        source.write_text("\n".join(lines) + "\n")
        commands.append(
            [stream_checkpoint, "--data", source, "--workers", "0", "--shuffle", "--json"]
        )
        assert run(*commands[-1], tmp_path / f"{name}-1.json")[0] == 0
    lines = [
        shlex.join(map(str, ["evaluate", *words, tmp_path / f"{name}-2.json"]))
        for name, words in zip(lists, commands, strict=True)
    ]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    paths = {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*torchrun, "--nproc_per_node", "2", str(script), *lines],
        capture_output=True,
        text=True,
        env={**os.environ, **paths},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("top-1") == 2
    assert result.stderr.count(" is left out: ") == 1
    for name, count in (("many", 7), ("one", 1)):
        one, two = (json.loads((tmp_path / f"{name}-{n}.json").read_text()) for n in (1, 2))
        # Each measures one of its own first videos.
        assert min(one.pop("peak_memory_bytes"), two.pop("peak_memory_bytes")) > 0
        one, two = (record | {"ms_per_frame": None} for record in (one, two))
        assert one == two
        assert one["videos"] == count
