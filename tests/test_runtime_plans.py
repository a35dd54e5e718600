"""Plans on real engines: graphs that take turns, and models of whole clips."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movinet_edge.bundle import MANIFEST
from movinet_edge.checkpoints.native import load_checkpoint
from movinet_edge.runtime import Stream
from tests.bundles import clip, edited, logits_of
from tests.conftest import BundleFactory


@pytest.fixture(scope="module")
def ensemble(bundles: BundleFactory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two graphs, one for the even and one for the odd frames, whose answers are averaged."""
    first = bundles("movinet-a0-stream", side=64, formats=("onnx",))
    second = bundles("movinet-a0-stream", form="carry", side=64, formats=("onnx",))
    target = tmp_path_factory.mktemp("ensemble") / "b"

    def join(manifest: dict[str, Any]) -> None:
        manifest["graphs"] = []
        for name, source in (("even", first), ("odd", second)):
            graph = json.loads((source / MANIFEST).read_text())["graphs"][0]
            graph["name"] = name
            for file in graph["files"]:
                old, file["path"] = file["path"], f"{name}/{file['path']}"
                (target / name).mkdir(exist_ok=True)
                shutil.copyfile(source / old, target / file["path"])
            manifest["graphs"].append(graph)
        manifest["plan"] = {
            "steps": [
                {"graph": "even", "every": 2, "offset": 0},
                {"graph": "odd", "every": 2, "offset": 1},
            ],
            "answer": "logits",
            "combine": "mean",
        }

    return edited(first, target, join)


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_a_temporal_ensemble(
    ensemble: Path, bundles: BundleFactory, small_bundle: Path, backend: str
) -> None:
    """Each graph sees every second frame; the answer is the mean of their newest answers."""
    frames = clip(10)
    carry = bundles("movinet-a0-stream", form="carry", side=64, formats=("onnx",))
    with Stream(small_bundle, backend) as even, Stream(carry, backend) as odd:
        parts = [logits_of(even, frames[0::2]), logits_of(odd, frames[1::2])]
    with Stream(ensemble, backend) as stream:
        for _ in range(2):
            got = logits_of(stream, frames)
            np.testing.assert_array_equal(got[0], parts[0][0])
            for n in range(1, 10):
                expected = (parts[0][n // 2] + parts[1][(n - 1) // 2]) / 2
                np.testing.assert_allclose(got[n], expected, atol=1e-6)
            stream.reset()


def test_the_last_answer_of_a_plan(ensemble: Path, tmp_path: Path) -> None:
    """Without averaging, the graph that ran last answers."""

    def last(manifest: dict[str, Any]) -> None:
        manifest["plan"]["combine"] = "last"

    frames = clip(6)
    with Stream(edited(ensemble, tmp_path / "b", last), "onnxruntime") as stream:
        got = logits_of(stream, frames)
        stream.reset()
        even = logits_of(stream, frames[:1])
    assert np.array_equal(got[0], even[0])
    assert len({row.tobytes() for row in got}) == 6


@pytest.fixture(scope="module")
def clip_bundle(bundles: BundleFactory) -> Path:
    return bundles("movinet-a0-base", form="clip", side=64, formats=("onnx",), clip_frames=8)


@cache
def clip_reference(bundle: Path, seed: int, seen: int) -> np.ndarray:
    """The model's answer to a clip of eight frames, the last of the `seen` repeated."""
    frames = clip(8, seed=seed)[:seen]
    frames = np.concatenate([frames, np.repeat(frames[-1:], 8 - seen, 0)])
    model = load_checkpoint(bundle / "step.safetensors").model
    tensor = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255
    with torch.inference_mode():
        logits: np.ndarray = model(tensor)[0][0, -1].numpy()
    return logits


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_a_model_of_whole_clips(clip_bundle: Path, backend: str) -> None:
    with Stream(clip_bundle, backend) as stream:
        for seed in (4, 5):
            answers = [stream.step(frame) for frame in clip(8, seed=seed)]
            assert answers[:7] == [None] * 7
            assert answers[7] is not None
            expected = clip_reference(clip_bundle, seed, 8)
            assert np.abs(answers[7].logits - expected).max() <= 1e-3 * expected.std()
            held = stream.step(clip(1)[0])  # until the next clip is complete
            assert held is not None
            assert np.array_equal(held.logits, answers[7].logits)
            final = stream.finish()
            assert final is not None
            assert np.array_equal(final.logits, held.logits)
            stream.reset()


@pytest.mark.parametrize("seen", [1, 5, 7])
def test_a_short_video_is_completed(clip_bundle: Path, seen: int) -> None:
    with Stream(clip_bundle, "onnxruntime") as stream:
        assert stream.finish() is None
        assert list(stream.run(clip(8, seed=4)[:seen])) == []
        answer = stream.finish()
    expected = clip_reference(clip_bundle, 4, seen)
    assert answer is not None
    assert np.abs(answer.logits - expected).max() <= 1e-3 * expected.std()


def test_a_short_video_at_half_the_rate(clip_bundle: Path, tmp_path: Path) -> None:
    """The clip takes every second frame: five of nine, the fifth is repeated."""

    def halve(manifest: dict[str, Any]) -> None:
        manifest["plan"]["steps"][0]["every"] = 2

    frames = clip(8, seed=4)
    with Stream(edited(clip_bundle, tmp_path / "b", halve), "onnxruntime") as stream:
        for n in range(9):
            assert stream.step(frames[n // 2] if n % 2 == 0 else 255 - frames[0]) is None
        answer = stream.finish()
    expected = clip_reference(clip_bundle, 4, 5)
    assert answer is not None
    assert np.abs(answer.logits - expected).max() <= 1e-3 * expected.std()
