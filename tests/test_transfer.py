"""From real Kinetics-600 weights and real clips to a bundle with the user's own classes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from tests.commands import movinet_edge

CLASSES = {"BenchPress": "g01_c0[12]", "Diving": "g01_c0[12]"}


def said(*words: str | Path) -> str:
    """What a command that succeeds prints."""
    result = movinet_edge(*words, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_two_classes_of_real_clips(shared: Callable[[str], Path], tmp_path: Path) -> None:
    """Fine-tune from Kinetics-600, export, verify and run: the README's road for own classes."""
    weights = shared("data/weights/movinet_a0_stream_k600_int8.tflite")
    labels, clips = shared("data/labels/kinetics600.txt"), shared("data/clips")
    data = tmp_path / "data"
    for name, pattern in CLASSES.items():
        (data / name).mkdir(parents=True)
        found = sorted(clips.glob(f"*{name}_{pattern}*"))
        assert len(found) == 2
        for clip in found:
            os.symlink(clip, data / name / clip.name)
    imported, run, bundle = tmp_path / "k600.safetensors", tmp_path / "run", tmp_path / "bundle"
    said("import", weights, "--labels", labels, "--out", imported)
    words = "--freeze backbone --set freeze_norm=true --frames 8 --epochs 15 --batch 4"
    said("train", "--init", imported, "--data", data, "--out", run, *words.split())
    trained = run / "best.safetensors"
    record = tmp_path / "record.json"
    said("evaluate", trained, "--data", data, "--json", record)
    assert json.loads(record.read_text())["top1"] == 1.0
    # `export` proves parity itself and fails where it does not hold.
    said("export", trained, "--out", bundle, "--format", "onnx")
    said("verify", bundle)
    for name in CLASSES:
        clip = next((data / name).iterdir())
        answer = json.loads(said("run", bundle, clip, "--json").splitlines()[-1])
        assert answer["top"][0]["label"] == name
