"""Streams of real bundles on real engines."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.native import load_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.models.registry import MODELS
from movinet_edge.runtime import Prediction, Stream
from movinet_edge.runtime.engines import BACKENDS, backend_named
from tests.bundles import clip, edited, logits_of

BACKENDS_HERE = ["litert", "litert-interpreter", "onnxruntime", "torch"]


def golden(bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    with np.load(bundle.file(bundle.manifest.golden)) as stored:
        return stored["frames"], stored["logits"]


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


@pytest.mark.parametrize("backend", ["litert-interpreter", "onnxruntime"])
def test_a_call_keeps_its_buffers_alive(a0_bundle: Path, backend: str) -> None:
    """Engines know addresses; a caller may let go of all but the outputs."""
    bundle, engine_named = Bundle(a0_bundle), backend_named(backend)
    file = next(f for f in bundle.manifest.graphs[0].files if f.format == engine_named.format)
    engine = engine_named.load(bundle.file(file), file, 1)
    inputs = {spec.name: engine.allocate(spec) for spec in file.inputs}
    outputs = {spec.name: engine.allocate(spec) for spec in file.outputs}
    held = [weakref.ref(buffer.array) for buffer in (*inputs.values(), *outputs.values())]
    run = engine.bind(inputs, outputs)
    del inputs, outputs
    gc.collect()
    assert all(array() is not None for array in held)
    run()
    del run
    engine.close()


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
