"""Exported bundles: numbers, graph facts, names, metadata, stability."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput
from movinet_edge.export.exporter import ExportOptions, export
from movinet_edge.export.facts import graph_facts
from movinet_edge.export.verify import verify_bundle
from movinet_edge.export.verify_record import GraphFacts, VerifyRecord
from movinet_edge.models.registry import MODELS
from movinet_edge.runtime import Stream
from tests.bundles import MOVINETS
from tests.conftest import BundleFactory, seeded_checkpoint

ONNX = ExportOptions(formats=("onnx",), verify=False)
ENGINES = ("litert", "onnxruntime")


def facts_of(bundle: Bundle) -> dict[str, GraphFacts]:
    facts, checks, _ = graph_facts(bundle)
    assert all(check.holds for check in checks), checks
    return {fact.format: fact for fact in facts}


def assert_holds(record: VerifyRecord) -> None:
    assert record.holds, [(c.name, c.subject, c.detail) for c in record.failures]


@pytest.mark.parametrize(
    "model",
    [
        "movinet-a0-stream",
        pytest.param("movinet-a1-stream", marks=pytest.mark.slow),
        pytest.param("movinet-a2-stream", marks=pytest.mark.slow),
    ],
)
def test_graph_facts_and_parity_at_full_size(model: str, bundles: BundleFactory) -> None:
    bundle = Bundle(bundles(model))
    facts = facts_of(bundle)  # also: no 3-D convolution, no custom operator, names kept
    assert facts["tflite"].max_rank <= 4
    assert facts["onnx"].max_rank <= 4
    assert facts["tflite"].transposes == 0
    assert facts["tflite"].partitions == 1
    assert facts["tflite"].fully_accelerated
    assert_holds(verify_bundle(bundle, list(ENGINES), steps=50))


def test_carry_form(bundles: BundleFactory) -> None:
    path = bundles("movinet-a0-stream", "carry")
    bundle = Bundle(path)
    files = {f.format: f for f in bundle.manifest.graphs[0].files}
    # `state = out`: TFLite emits a state under its own name, ONNX cannot repeat a name.
    names = {t.state: t.name for t in files["tflite"].inputs if t.state}
    assert names == {t.state: t.name for t in files["tflite"].outputs if t.state}
    assert all(t.name == f"{names[t.state]}_new" for t in files["onnx"].outputs if t.state)
    assert_holds(verify_bundle(bundle, list(ENGINES)))


def test_base_model_as_clip(bundles: BundleFactory) -> None:
    bundle = Bundle(bundles("movinet-a0-base", "clip", clip_frames=16))
    assert facts_of(bundle)["tflite"].max_rank <= 4
    assert_holds(verify_bundle(bundle, list(ENGINES)))
    golden = np.load(bundle.file(bundle.manifest.golden))
    for backend in ENGINES:
        with Stream(bundle, backend) as stream:
            answers = [stream.step(frame) for frame in golden["frames"]]
        assert answers[:-1] == [None] * 15
        assert answers[-1] is not None
        error = np.abs(answers[-1].logits - golden["logits"][0]).max() / golden["logits"].std()
        assert error <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("form", ["fresh", "carry"])
@pytest.mark.parametrize("model", [name for name, arch in MOVINETS.items() if arch.causal])
def test_every_stream_model_in_both_forms(model: str, form: str, bundles: BundleFactory) -> None:
    """All properties on both engines; the three largest at a smaller frame size."""
    side = None if model[9:11] in ("a0", "a1", "a2") else 96
    assert_holds(verify_bundle(Bundle(bundles(model, form, side)), list(ENGINES), steps=50))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["movinet-a0-stream", "movinet-a3-stream"])
def test_thousand_steps(model: str, bundles: BundleFactory) -> None:
    side = None if model == "movinet-a0-stream" else 96
    bundle = Bundle(bundles(model, "fresh", side))
    record = verify_bundle(bundle, list(ENGINES), steps=1000, properties=False)
    assert_holds(record)
    for stream in record.streams:
        assert stream.figures is not None
        error = stream.figures.error
        assert max(error[750:]) < 3 * max(error[:250]), "the error grows with the stream"


LABELS = [f"label {i}" for i in range(600)]


def labelled(path: Path) -> Path:
    """Export a small model with labels, in both formats."""
    checkpoint = seeded_checkpoint(MODELS["movinet-a0-stream"], side=64)
    checkpoint.labels = LABELS
    export(checkpoint, path, ExportOptions(verify=False))
    return path


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("once") / "b")


def test_re_export_is_bit_identical(once: Path, tmp_path: Path) -> None:
    again = labelled(tmp_path / "b")
    for path in sorted(once.iterdir()):
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_labels_and_contract_travel_inside_the_files(once: Path) -> None:
    props = {p.key: p.value for p in onnx.load(once / "step.onnx").metadata_props}
    assert props["labels"].splitlines() == LABELS
    assert json.loads(props["preprocessing"])["height"] == 64
    assert json.loads(props["architecture"])["variant"] == "a0"
    with zipfile.ZipFile(once / "step.tflite") as archive:
        assert archive.read("labels.txt").decode().splitlines() == LABELS
        assert json.loads(archive.read("metadata.json"))["movinet_edge"]
    assert Bundle(once).labels == LABELS


def test_in_graph_preprocessing_and_softmax(small_bundle: Path, tmp_path: Path) -> None:
    checkpoint = seeded_checkpoint(MODELS["movinet-a0-stream"], side=64)
    options = ExportOptions(
        formats=("onnx", "tflite"), in_graph_preprocess=True, softmax=True, verify=False
    )
    export(checkpoint, tmp_path / "inside", options)
    frames = np.load(small_bundle / "golden.npz")["frames"][:6]
    for backend in (*ENGINES, "torch"):
        plain, inside = (
            Stream(small_bundle, "onnxruntime"),
            Stream(tmp_path / "inside", backend),
        )
        for frame in frames:
            expected, got = plain.step(frame), inside.step(frame)
            assert expected is not None
            assert got is not None
            np.testing.assert_allclose(got.probabilities, expected.probabilities, atol=1e-6)
            # A float frame of the same values gives the same answer.
        floats = Stream(tmp_path / "inside", backend)
        for frame in frames:
            again = floats.step(frame.astype(np.float32) / 255)
        assert again is not None
        np.testing.assert_allclose(again.probabilities, got.probabilities, atol=1e-6)


def test_proof_lies_in_the_bundle(tmp_path: Path) -> None:
    checkpoint = seeded_checkpoint(MODELS["movinet-a0-stream"], side=64)
    record = export(checkpoint, tmp_path / "b.zip", ExportOptions(formats=("onnx",)))
    assert record is not None
    assert_holds(record)
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert {"manifest.json", "golden.npz", "parity.json", "report.html"} <= set(
            archive.namelist()
        )
    assert [p.name for p in tmp_path.iterdir()] == ["b.zip"]


def test_refusals(tmp_path: Path) -> None:
    base = seeded_checkpoint(MODELS["movinet-a0-base"], side=64)
    with pytest.raises(BadInput, match="--form clip"):
        export(base, tmp_path / "b", ONNX)
    stream = seeded_checkpoint(MODELS["movinet-a0-stream"], side=64)
    stream.labels = ["one"]
    with pytest.raises(BadInput, match="1 labels for 600 classes"):
        export(stream, tmp_path / "b", ONNX)
    assert not list(tmp_path.iterdir())
