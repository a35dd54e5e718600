"""Temporal ensembles: the mean of models that take turns, what is written, and its verification."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from movinet_edge.benchmarks import host
from movinet_edge.benchmarks.bundled import macs_per_step
from movinet_edge.bundle import Bundle, Manifest, combined_sha256
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.export.ensemble import export_ensemble
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.report import write_html, write_json, write_junit
from movinet_edge.export.verify import verify_bundle
from movinet_edge.export.verify_record import VerifyRecord
from movinet_edge.files import MANIFEST, sha256_of
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import weights_sha256
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime import Stream
from movinet_edge.streaming.spec import describe
from tests.bundles import logits_of, weight_of
from tests.commands import Command
from tests.ensembles import RATE, SIDE, assert_close, clip, expected_logits
from tests.videos import encode_video

BACKENDS = ["litert", "litert-interpreter", "onnxruntime", "torch"]
LAYERS = published_arch("a0", True).table.layers()
ONNX = ExportOptions(formats=("onnx",), verify=False)


@pytest.fixture(scope="module")
def ensemble(members: list[Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both formats; do not change it."""
    path = tmp_path_factory.mktemp("ensemble") / "b"
    export_ensemble(members, path, ExportOptions(verify=False))
    return path


# What it answers ---------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_answer_is_the_mean_of_members_on_their_own_frames(
    ensemble: Path, members: list[Checkpoint], backend: str
) -> None:
    frames = clip(11)
    expected = expected_logits(members, frames)
    with Stream(ensemble, backend) as stream:
        for length in (11, 3, 11):  # an odd number of frames, so that the next stream begins anew
            got = logits_of(stream, frames[:length])
            assert_close(got, expected[:length])
            stream.reset()


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_the_first_answer_is_the_first_members(
    ensemble: Path, members: list[Checkpoint], backend: str
) -> None:
    frames = clip(2)
    with Stream(ensemble, backend) as stream:
        first, second = logits_of(stream, frames)
        assert list(stream.answers) == ["model_a", "model_b"]
        newest = [stream.answers[name] for name in ("model_a", "model_b")]
    assert_close(first, expected_logits(members[:1], frames[:1])[0])
    assert np.array_equal(first, newest[0])
    assert np.array_equal(second, np.mean(newest, axis=0))


# What is written ---------------------------------------------------------------------------


def test_the_manifest_tells_the_plan(ensemble: Path, members: list[Checkpoint]) -> None:
    bundle = Bundle(ensemble)
    bundle.check_all()
    manifest = bundle.manifest
    hashes = [weights_sha256(one.model) for one in members]
    assert [(s.graph, s.every, s.offset) for s in manifest.plan.steps] == [
        ("model_a", 2, 0),
        ("model_b", 2, 1),
    ]
    assert manifest.plan.combine == "mean"
    assert manifest.preprocessing.frame_rate == 2 * RATE
    assert manifest.provenance.architecture == members[0].arch.model_dump()
    assert [graph.checkpoint_sha256 for graph in manifest.graphs] == hashes
    assert manifest.provenance.checkpoint_sha256 == combined_sha256(hashes)
    assert combined_sha256(hashes) != combined_sha256(hashes[::-1])
    names = {f"model_{x}.{y}" for x in "ab" for y in ("onnx", "tflite", "safetensors")}
    assert {p.name for p in ensemble.iterdir()} == {*names, MANIFEST, "golden.npz"}


def test_the_golden_answers_are_the_ensembles(ensemble: Path, members: list[Checkpoint]) -> None:
    with np.load(ensemble / "golden.npz") as golden:
        assert len(golden["frames"]) >= 32
        assert_close(golden["logits"], expected_logits(members, golden["frames"]))


def test_files_are_those_of_the_members_alone(
    ensemble: Path, members: list[Checkpoint], tmp_path: Path
) -> None:
    """Also: a re-export is bit-identical."""
    for letter, one in zip("ab", members, strict=True):
        export(one, tmp_path / letter, ONNX)
        for suffix in ("onnx", "safetensors"):
            alone = (tmp_path / letter / f"step.{suffix}").read_bytes()
            assert (ensemble / f"model_{letter}.{suffix}").read_bytes() == alone


# Verification ------------------------------------------------------------------------------

EditManifest = Callable[[dict[str, Any]], None]


def variant(
    ensemble: Path, folder: Path, contents: dict[str, bytes], edit: EditManifest | None = None
) -> Bundle:
    """A copy with other files, whose hashes are right, and an edited manifest."""
    shutil.copytree(ensemble, folder, copy_function=os.link)
    for name, content in contents.items():
        (folder / name).unlink()  # the original is a link to the same file
        (folder / name).write_bytes(content)
    manifest = Bundle(ensemble).manifest.model_dump(mode="json", exclude_none=True)
    for graph in manifest["graphs"]:
        for file in graph["files"]:
            file["sha256"] = sha256_of(folder / file["path"])
    if edit is not None:
        edit(manifest)
    (folder / MANIFEST).unlink()
    text = Manifest.model_validate(manifest).model_dump_json(exclude_none=True)
    (folder / MANIFEST).write_text(text, "utf-8")
    return Bundle(folder)


def with_noise(path: Path, weight: str) -> bytes:
    """An ONNX model in which the weight whose name ends in `weight` is noisy."""
    model = onnx.load(path)
    (found,) = [w for w in model.graph.initializer if w.name.endswith(weight)]
    values = numpy_helper.to_array(found)
    noise = np.random.default_rng(1).normal(0, values.std(), values.shape)
    found.CopyFrom(numpy_helper.from_array((values + noise).astype("f4"), found.name))
    return model.SerializeToString()


def verified(bundle: Bundle, properties: bool = False) -> VerifyRecord:
    return verify_bundle(bundle, ["onnxruntime"], steps=6, properties=properties)


def failed(record: VerifyRecord) -> set[tuple[str, str]]:
    return {(check.subject, check.name) for check in record.failures}


@pytest.fixture(scope="module")
def good(ensemble: Path) -> VerifyRecord:
    return verify_bundle(Bundle(ensemble), steps=40)


def test_verify_holds_on_every_backend(good: VerifyRecord) -> None:
    assert good.holds, good.failures
    assert {(s.backend, s.steps, s.reference) for s in good.streams} == {
        (backend, 40, "PyTorch clip") for backend in BACKENDS
    }


def test_verify_covers_the_plan_and_every_graph(good: VerifyRecord) -> None:
    names = {check.name for check in good.of_kind("property")}
    whole = {name for name in names if ":" not in name}
    assert {
        "every state input matters",
        "reset forgets the stream",
        "interleaved streams do not mix",
        "swapped states are noticed",
    } <= whole
    assert names == whole | {f"model_{x}: {name}" for x in "ab" for name in whole}
    assert {fact.path for fact in good.facts} == {
        f"model_{x}.{suffix}" for x in "ab" for suffix in ("onnx", "tflite")
    }
    assert {"golden", "model_a", "model_b"} == {c.subject for c in good.of_kind("reference")}


@pytest.mark.parametrize(
    ("graph", "weight", "step", "layer"),
    [
        ("model_b", weight_of(5, "spatial.weight"), 1, f"{LAYERS[5].name}.stream of model_b"),
        ("model_a", weight_of(5, "spatial.weight"), 0, f"{LAYERS[5].name}.stream of model_a"),
        ("model_b", "classify.weight", 1, "head (after head.pool) of model_b"),
    ],
)
def test_one_members_altered_weights_are_found(
    ensemble: Path, tmp_path: Path, graph: str, weight: str, step: int, layer: str
) -> None:
    name = f"{graph}.onnx"
    bundle = variant(ensemble, tmp_path / "b", {name: with_noise(ensemble / name, weight)})
    record = verified(bundle)
    assert failed(record) == {("onnxruntime fp32", "parity on golden")}
    (stream,) = record.streams
    assert stream.bad_step == step  # the first at which that member answers
    assert stream.first_layer == layer
    assert f"first at step {step}, in {layer}" in record.failures[0].detail


def swapped(ensemble: Path, suffix: str) -> dict[str, bytes]:
    """The contents of both members' files, exchanged."""
    a, b = (f"model_{letter}.{suffix}" for letter in "ab")
    return {a: (ensemble / b).read_bytes(), b: (ensemble / a).read_bytes()}


def test_swapped_models_fail(ensemble: Path, tmp_path: Path) -> None:
    record = verified(variant(ensemble, tmp_path / "b", swapped(ensemble, "onnx")))
    assert failed(record) == {("onnxruntime fp32", "parity on golden")}
    assert record.streams[0].bad_step == 0
    assert (record.streams[0].first_layer or "").endswith(" of model_a")


def test_swapped_checkpoints_fail(ensemble: Path, tmp_path: Path) -> None:
    record = verified(variant(ensemble, tmp_path / "b", swapped(ensemble, "safetensors")))
    weights = "weights are those of the provenance"
    assert {
        ("golden", "stored answers are the checkpoint's"),
        ("model_a", weights),
        ("model_b", weights),
    } <= failed(record)


def test_swapped_turns_fail(ensemble: Path, tmp_path: Path) -> None:
    def swap(manifest: dict[str, Any]) -> None:
        for step in manifest["plan"]["steps"]:
            step["offset"] = 1 - step["offset"]

    record = verified(variant(ensemble, tmp_path / "b", {}, swap))
    assert ("golden", "stored answers are the checkpoint's") in failed(record)


def test_swapped_past_frames_of_one_member_fail(ensemble: Path, tmp_path: Path) -> None:
    def swap(manifest: dict[str, Any]) -> None:
        for file in manifest["graphs"][1]["files"]:
            for spec in file["inputs"]:
                if spec.get("state") == "b1.l1.stream" and file["format"] == "onnx":
                    spec["slot"] = 1 - spec["slot"]

    (stream,) = verified(variant(ensemble, tmp_path / "b", {}, swap)).streams
    assert stream.bad_step == 3  # the second frame of that member
    assert stream.first_layer == "b1.l1.pool of model_b"


def test_a_dead_state_input_is_named_with_its_graph(ensemble: Path, tmp_path: Path) -> None:
    model = onnx.load(ensemble / "model_b.onnx")
    (window,) = [n for n in model.graph.node if "b1_l1_stream_0" in n.input]
    (conv,) = [n for n in model.graph.node if window.output[0] in n.input]
    (weight,) = [w for w in model.graph.initializer if w.name == conv.input[1]]
    values = numpy_helper.to_array(weight).copy()
    values[:, :, 0] = 0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    content = {"model_b.onnx": model.SerializeToString()}
    record = verified(variant(ensemble, tmp_path / "b", content), properties=True)
    dead = {c.name for c in record.of_kind("property") if not c.holds}
    assert dead == {"every state input matters", "model_b: every state input matters"}


def test_hashes_that_do_not_agree_are_refused(ensemble: Path, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["graphs"][0]["checkpoint_sha256"] = "0" * 64

    with pytest.raises(ValueError, match="hashes of the checkpoints do not agree"):
        variant(ensemble, tmp_path / "b", {}, change)


def test_reports_show_each_graph(ensemble: Path, tmp_path: Path) -> None:
    name = "model_b.onnx"
    content = {name: with_noise(ensemble / name, weight_of(5, "spatial.weight"))}
    record = verified(variant(ensemble, tmp_path / "b", content), properties=True)
    write_html(record, tmp_path / "r.html")
    write_junit(record, tmp_path / "r.xml")
    write_json(record, tmp_path / "r.json")
    page = (tmp_path / "r.html").read_text("utf-8")
    cases = [c.attrib for c in ElementTree.parse(tmp_path / "r.xml").iter("testcase")]
    assert VerifyRecord.model_validate_json((tmp_path / "r.json").read_bytes()) == record
    layer = record.streams[0].first_layer or ""
    assert layer.endswith(" of model_b")
    for text in (layer, "model_a.onnx", "model_b.tflite", "model_a: every state", "the mean of mo"):
        assert text in page
    assert {"model_a: tensors bind by name", "model_b: tensors bind by name"} <= {
        case["name"] for case in cases
    }
    assert {"graph.model_a.onnx", "graph.model_b.onnx"} <= {case["classname"] for case in cases}


# Commands ----------------------------------------------------------------------------------


def test_bench_counts_whole_turns(ensemble: Path, members: list[Checkpoint]) -> None:
    manifest = Bundle(ensemble).manifest
    spec = describe(members[0].model, (SIDE, SIDE))
    assert macs_per_step(manifest, 1) == spec.macs
    report = host.bench(ensemble, host.Options(["onnxruntime"], steps=3))
    (measured,) = report.measurements
    assert measured.method.steps == 4
    assert measured.subject.macs_per_step == spec.macs
    assert measured.subject.state_bytes == 2 * spec.state_bytes
    assert [file.graph for file in measured.subject.files] == ["model_a", "model_b"]


def test_inspect_and_run(
    call: Command, ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, said, _ = call("inspect", ensemble)
    assert code == 0
    for text in ("every 2 frames from 1 on", "the mean of what each graph gave last", "at 5 per"):
        assert text in said
    path = encode_video(tmp_path / "v.mp4", moving_pattern(14, 64, 96))
    answers = [
        call("run", ensemble, path, "--json", "--backend", backend)[1].splitlines()
        for backend in ("litert", "torch")
    ]
    assert [len(lines) for lines in answers] == [7, 7]  # the bundle's rate, twice the members'
