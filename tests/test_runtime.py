"""Streams of real bundles on real engines."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movinet_edge.bundle import MANIFEST, Bundle
from movinet_edge.checkpoints.native import load_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.models.registry import MODELS
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime import Prediction, Stream
from movinet_edge.runtime.engines import BACKENDS, backend_named
from tests.conftest import BundleFactory

BACKENDS_HERE = ["litert", "litert-interpreter", "onnxruntime", "torch"]


def golden(bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    with np.load(bundle.file(bundle.manifest.golden)) as stored:
        return stored["frames"], stored["logits"]


def logits_of(stream: Stream, frames: Iterable[np.ndarray]) -> np.ndarray:
    return np.stack([p.logits for p in stream.run(frames)])


def clip(count: int = 8, height: int = 64, width: int = 64, seed: int = 1) -> np.ndarray:
    return moving_pattern(count, height, width, seed)


@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_golden_parity(a0_bundle: Path, backend: str) -> None:
    bundle = Bundle(a0_bundle)
    frames, expected = golden(bundle)
    threshold = bundle.manifest.thresholds["fp32"]
    with Stream(bundle, backend) as stream:
        got = logits_of(stream, frames)
        assert stream.version
    assert np.abs(got - expected).max() / expected.std() <= threshold.max_error
    assert np.array_equal(got.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_reset_begins_a_new_stream(a0_bundle: Path, backend: str) -> None:
    frames = clip(6, 172, 172)
    with Stream(a0_bundle, backend) as stream:
        first = logits_of(stream, frames)
        list(stream.run(clip(3, 172, 172, seed=5)))  # to leave off in another phase
        stream.reset()
        assert stream.finish() is None
        second = logits_of(stream, frames)
    assert np.array_equal(first, second)
    assert np.abs(first[-1] - first[0]).max() > 0


@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_interleaved_streams_do_not_mix(a0_bundle: Path, backend: str) -> None:
    """Two streams on one opened bundle."""
    bundle = Bundle(a0_bundle)
    clips = clip(5, 172, 172, seed=2), clip(5, 172, 172, seed=3)
    alone = []
    for frames in clips:
        with Stream(bundle, backend) as stream:
            alone.append(logits_of(stream, frames))
    with Stream(bundle, backend) as one, Stream(bundle, backend) as two:
        mixed: tuple[list[np.ndarray], ...] = ([], [])
        for pair in zip(*clips, strict=True):
            for stream, frame, answers in zip((one, two), pair, mixed, strict=True):
                prediction = stream.step(frame)
                assert prediction is not None
                answers.append(prediction.logits)
    assert np.array_equal(alone[0], np.stack(mixed[0]))
    assert np.array_equal(alone[1], np.stack(mixed[1]))


@pytest.mark.parametrize("backend", ["litert", "onnxruntime"])
def test_predictions_are_kept(a0_bundle: Path, backend: str) -> None:
    """An answer is the caller's: later steps do not change it."""
    frames = clip(4, 172, 172)
    with Stream(a0_bundle, backend) as stream:
        kept = [p.logits for p in stream.run(frames)]
        copies = [logits.copy() for logits in kept]
        list(stream.run(clip(4, 172, 172, seed=9)))
        stream.reset()
        assert all(np.array_equal(a, b) for a, b in zip(kept, copies, strict=True))


def test_frames_of_any_size_and_type(small_bundle: Path) -> None:
    with Stream(small_bundle, "onnxruntime") as stream:
        for shape in ((64, 64), (480, 640), (33, 97), (1, 1)):
            frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
            answers = []
            for given in (frame, (frame / 255).astype(np.float32), frame / 255, frame[:, :]):
                stream.reset()
                prediction = stream.step(given)
                assert prediction is not None
                answers.append(prediction.logits)
            for other in answers[1:]:
                np.testing.assert_allclose(other, answers[0], atol=2e-4)
        stream.reset()
        with pytest.raises(ValueError, match="a frame is"):
            stream.step(np.zeros((64, 64), np.uint8))
        prediction = stream.step(clip(1)[0])  # a refused frame leaves the stream as it was
        assert prediction is not None
        assert prediction.frame == 0


def edited(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a bundle with a changed manifest."""
    shutil.copytree(source, target)
    manifest = json.loads((target / MANIFEST).read_text())
    change(manifest)
    (target / MANIFEST).write_text(json.dumps(manifest))
    return target


@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_tensors_are_bound_by_name(a0_bundle: Path, tmp_path: Path, backend: str) -> None:
    """The manifest's order means nothing."""

    def shuffle(manifest: dict[str, Any]) -> None:
        rng = np.random.default_rng(0)
        for file in manifest["graphs"][0]["files"]:
            for side in ("inputs", "outputs"):
                file[side] = [file[side][i] for i in rng.permutation(len(file[side]))]
        manifest["graphs"][0]["states"].reverse()

    frames = clip(4, 172, 172)
    with Stream(a0_bundle, backend) as stream:
        expected = logits_of(stream, frames)
    with Stream(edited(a0_bundle, tmp_path / "b", shuffle), backend) as stream:
        assert np.array_equal(logits_of(stream, frames), expected)


@pytest.mark.parametrize("backend", ["litert", "litert-interpreter", "onnxruntime"])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "nonsense", r"manifest does not name|which the manifest names"),
        ("shape", [1, 2], "more than one shape"),
        ("dtype", "uint8", "is float32 in the model"),
    ],
)
def test_a_manifest_that_disagrees_with_its_model(
    a0_bundle: Path, tmp_path: Path, backend: str, field: str, value: object, message: str
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        for file in manifest["graphs"][0]["files"]:
            role = "state" if field == "shape" else "frame"
            next(s for s in file["inputs"] if s["role"] == role)[field] = value

    bundle = edited(a0_bundle, tmp_path / "b", change)

    def step() -> None:
        with Stream(bundle, backend) as stream:
            stream.step(np.zeros((172, 172, 3), np.uint8))

    with pytest.raises(BadInput, match=message):
        step()


def test_every_state_matters(small_bundle: Path) -> None:
    """Forgetting any one of them changes the next answer."""
    frames = clip(9)
    with Stream(small_bundle, "onnxruntime") as stream:
        (runner,) = stream.graphs.values()
        assert len(runner.rings) == len(runner.graph.states) > 20

        def answer(forget: str | None) -> np.ndarray:
            stream.reset()
            for frame in frames[:-1]:
                stream.step(frame)
            for ring in runner.rings:
                if ring.rule.name == forget:
                    ring.reset()
            prediction = stream.step(frames[-1])
            assert prediction is not None
            return prediction.logits

        expected = answer(None)
        assert np.array_equal(answer(None), expected)
        scale = expected.std()
        for rule in runner.graph.states:
            assert np.abs(answer(rule.name) - expected).max() > 1e-5 * scale, rule.name


def test_states_are_readable(small_bundle: Path) -> None:
    with Stream(small_bundle, "onnxruntime") as stream:
        (runner,) = stream.graphs.values()
        before = runner.states()
        list(stream.run(clip(3)))
        after = runner.states()
        assert before.keys() == after.keys() == {rule.name for rule in runner.graph.states}
        assert all(not np.array_equal(before[name], after[name]) for name in after)
        stream.reset()
        assert all(np.array_equal(before[name], value) for name, value in runner.states().items())


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


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def test_a_thousand_steps(small_bundle: Path) -> None:
    """Neither the error against the model nor the memory grows."""
    model = load_checkpoint(small_bundle / "step.safetensors").model
    state, errors, used = None, [], {}
    with Stream(small_bundle, "onnxruntime") as stream:
        for part in range(20):
            frames = clip(50, seed=100 + part)
            got = logits_of(stream, frames)
            tensor = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255
            with torch.inference_mode():
                logits, state = model(tensor, state)
            expected = logits[0].numpy()
            errors += list(np.abs(got - expected).max(1) / expected.std())
            used[50 * (part + 1)] = resident_bytes()
    limit = Bundle(small_bundle).manifest.thresholds["fp32"].max_error
    assert len(errors) == 1000
    assert max(errors) <= limit
    assert np.mean(errors[-200:]) <= 3 * np.mean(errors[:200])
    assert used[1000] - used[200] < 16e6  # one frame's buffers a step would be 300 MB


@pytest.mark.parametrize("backend", ["litert", "litert-interpreter", "onnxruntime"])
def test_streams_are_cheap_to_make_again(a0_bundle: Path, backend: str) -> None:
    """Closed streams give their memory back."""
    bundle, frame = Bundle(a0_bundle), np.zeros((172, 172, 3), np.uint8)

    def use() -> None:
        with Stream(bundle, backend) as stream:
            stream.step(frame)

    for _ in range(3):
        use()
    before = resident_bytes()
    for _ in range(6):
        use()
    assert resident_bytes() - before < 45e6  # three of the six models


def test_prediction() -> None:
    labels = [f"label {i}" for i in range(5)]
    logits = np.array([1.0, 3.0, 2.0, 3.0, -200.0], np.float32)
    prediction = Prediction(7, logits, labels)
    np.testing.assert_allclose(prediction.probabilities.sum(), 1, rtol=1e-6)
    top = prediction.top(3)
    assert [(s.index, s.label) for s in top] == [(1, "label 1"), (3, "label 3"), (2, "label 2")]
    assert top[0].score == top[1].score > top[2].score
    assert len(prediction.top()) == 5
    assert len(prediction.top(9)) == 5
    assert isinstance(top[0].score, float)
    huge = Prediction(0, np.array([1e4, -1e4], np.float32), ["a", "b"])
    assert huge.top(1)[0].score == 1.0


def test_a_closed_stream_lets_its_engine_go(small_bundle: Path) -> None:
    with Stream(small_bundle, "onnxruntime") as stream:
        assert stream.graphs
    assert not stream.graphs


def test_backends_by_name(small_bundle: Path) -> None:
    assert backend_named("ort") is BACKENDS["onnxruntime"]
    with pytest.raises(BadInput, match="unknown backend 'nope'; choose one of litert, "):
        Stream(small_bundle, "nope")
    with pytest.raises(BadInput, match=r"no fp32 tflite file .* --format tflite"):
        Stream(small_bundle, "litert")
    with pytest.raises(BadInput, match="no int8 onnx file"):
        Stream(small_bundle, "onnxruntime", precision="int8")
    with Stream(small_bundle) as stream:
        assert stream.backend.name == "onnxruntime"  # the first that the bundle has files for


def test_the_published_models_all_have_a_backend() -> None:
    assert set(BACKENDS) >= {*BACKENDS_HERE, "tflite-runtime"}
    assert "movinet-a0-stream" in MODELS


def test_the_runtime_does_not_load_torch(a0_bundle: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from movinet_edge.runtime import Stream\n"
        "assert not {'torch', 'av', 'ai_edge_litert', 'onnxruntime'} & set(sys.modules)\n"
        f"for backend in ('litert', 'litert-interpreter', 'onnxruntime'):\n"
        f"    with Stream({str(a0_bundle)!r}, backend) as stream:\n"
        "        stream.step(np.zeros((9, 9, 3), np.uint8))\n"
        "print(*sorted({'torch', 'tensorflow', 'jax', 'PIL'} & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
    assert result.stderr == ""
