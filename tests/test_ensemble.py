"""Temporal ensembles: models that take turns are the mean of their answers, and are held to it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from movinet_edge.benchmarks import host
from movinet_edge.benchmarks.bundled import macs_per_step
from movinet_edge.bundle import Bundle, Manifest, combined_sha256
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.cli import console
from movinet_edge.cli.main import main
from movinet_edge.errors import BadInput
from movinet_edge.export.ensemble import export_ensemble
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.report import write_html, write_json, write_junit
from movinet_edge.export.verify import verify_bundle
from movinet_edge.export.verify_record import VerifyRecord
from movinet_edge.files import MANIFEST, sha256_of
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import default_preprocessing, seeded_model, weights_sha256
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime import Stream
from movinet_edge.streaming.spec import describe

SIDE, CLASSES, RATE = 64, 7, 2.5
BACKENDS = ["litert", "litert-interpreter", "onnxruntime", "torch"]
LAYERS = published_arch("a0", True).table.layers()
ONNX = ExportOptions(formats=("onnx",), verify=False)
TORCH_ONLY = ExportOptions(formats=(), verify=False)


def member(seed: int, causal: bool = True, **arch: object) -> Checkpoint:
    """An untrained member at half of 5 frames per second."""
    model = seeded_model(published_arch("a0", causal, **{"classes": CLASSES, **arch}), seed)
    contract = default_preprocessing(model.arch)
    size = {"height": SIDE, "width": SIDE, "frame_rate": RATE}
    return Checkpoint(model, contract.model_copy(update=size))


@pytest.fixture(scope="module")
def members() -> list[Checkpoint]:
    return [member(0), member(1)]


@pytest.fixture(scope="module")
def ensemble(members: list[Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both formats; do not change it."""
    path = tmp_path_factory.mktemp("ensemble") / "b"
    export_ensemble(members, path, ExportOptions(verify=False))
    return path


def clip(count: int, seed: int = 3) -> np.ndarray:
    return moving_pattern(count, SIDE, SIDE, seed)


def expected_logits(members: Sequence[Checkpoint], frames: np.ndarray) -> np.ndarray:
    """From the definition: the mean of the newest answers of those that have answered."""
    answers = []
    for turn, one in enumerate(members):
        own = frames[turn :: len(members)]
        tensor = torch.from_numpy(own.copy()).permute(0, 3, 1, 2)[None].float() / 255
        with torch.inference_mode():
            answers.append(one.model(tensor)[0][0].numpy())
    rows = []
    for n in range(len(frames)):
        answered = range(min(n + 1, len(members)))
        rows.append(np.mean([answers[i][(n - i) // len(members)] for i in answered], axis=0))
    return np.stack(rows)


def logits_of(stream: Stream, frames: np.ndarray) -> np.ndarray:
    return np.stack([p.logits for p in stream.run(frames)])


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-4 * expected.std()


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


def test_three_members_take_turns(members: list[Checkpoint], tmp_path: Path) -> None:
    three = [*members, member(2)]
    export_ensemble(three, tmp_path / "b", TORCH_ONLY)
    bundle = Bundle(tmp_path / "b")
    assert bundle.manifest.preprocessing.frame_rate == 3 * RATE
    assert bundle.manifest.plan.period == 3
    assert macs_per_step(bundle.manifest, 1) == pytest.approx(bundle.manifest.graphs[0].macs)
    frames = clip(8)
    with Stream(bundle, "torch") as stream:
        assert_close(logits_of(stream, frames), expected_logits(three, frames))
    record = verify_bundle(bundle, steps=50)  # sub-clips that end in the middle of a turn
    assert record.holds, record.failures


def test_logits_are_averaged_before_the_softmax(members: list[Checkpoint], tmp_path: Path) -> None:
    options = ExportOptions(("onnx",), in_graph_preprocess=True, softmax=True, verify=False)
    export_ensemble(members, tmp_path / "b", options)
    bundle, frames = Bundle(tmp_path / "b"), clip(5)
    logits = expected_logits(members, frames)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for backend in ("onnxruntime", "torch"):
        with Stream(bundle, backend) as stream:
            got = np.stack([p.probabilities for p in stream.run(frames)])
        np.testing.assert_allclose(got, expected, atol=1e-6)
    record = verify_bundle(bundle, properties=False)
    assert record.holds, record.failures


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


def test_re_export_is_bit_identical(members: list[Checkpoint], tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        export_ensemble(members, tmp_path / name, TORCH_ONLY)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def other(checkpoint: Checkpoint, **contract: object) -> Checkpoint:
    changed = checkpoint.preprocessing.model_copy(update=contract)
    return Checkpoint(checkpoint.model, changed, checkpoint.labels)


def labelled(checkpoint: Checkpoint, *labels: str) -> Checkpoint:
    return Checkpoint(checkpoint.model, checkpoint.preprocessing, list(labels))


LABELS = tuple(f"label {i}" for i in range(CLASSES))
REFUSED: dict[str, tuple[Callable[[Checkpoint], list[Checkpoint]], str]] = {
    "one": (lambda a: [a], "2 to 26 checkpoints, not 1; "),
    "classes": (
        lambda a: [a, member(1, classes=CLASSES + 1)],
        "checkpoint 2 differs from the first in its architecture (classes: 8 instead of 7); train",
    ),
    "gate": (lambda a: [a, member(1, gate="sigmoid")], "(gate: 'sigmoid' instead of 'hard_"),
    "third": (
        lambda a: [a, a, member(1, gate="sigmoid")],
        "checkpoint 3 differs from the first in its arch",
    ),
    "rate": (
        lambda a: [a, other(a, frame_rate=5.0)],
        "in its preprocessing (frame_rate: 5.0 instead of 2.5)",
    ),
    "size": (lambda a: [a, other(a, height=96)], "(height: 96 instead of 64); train them on"),
    "no labels": (lambda a: [labelled(a, *LABELS), a], "and 4 more); give one label file"),
    "order of labels": (
        lambda a: [labelled(a, *LABELS), labelled(a, "label 1", "label 0", *LABELS[2:])],
        "in its labels (0: 'label 1' instead of 'label 0', 1: 'label 0' instead of 'label 1'); ",
    ),
    "whole clips": (lambda a: [member(0, causal=False)] * 2, "which sees whole clips; give stream"),
    "too few labels": (lambda a: [labelled(a, "x")] * 2, "1 labels for 7 classes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_members_that_do_not_belong_together(
    members: list[Checkpoint], tmp_path: Path, case: str
) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(BadInput) as refused:
        export_ensemble(make(members[0]), tmp_path / "b", TORCH_ONLY)
    assert reason in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_whole_clips_are_no_ensemble(members: list[Checkpoint], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="fresh or carry"):
        export_ensemble(members, tmp_path / "b", ExportOptions(form="clip"))


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
        ("model_b", "body.blocks.5.spatial.weight", 1, f"{LAYERS[5].name}.stream of model_b"),
        ("model_a", "body.blocks.5.spatial.weight", 0, f"{LAYERS[5].name}.stream of model_a"),
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
    content = {name: with_noise(ensemble / name, "body.blocks.5.spatial.weight")}
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


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        for stream in (console.out, console.err):
            stream.cache_clear()
        monkeypatch.setattr(sys, "argv", ["movinet-edge", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said = capfd.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run


@pytest.fixture(scope="module")
def checkpoints(members: list[Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = [folder / "a.safetensors", folder / "b.safetensors", folder / "rate.safetensors"]
    for one, path in zip([*members, other(members[0], frame_rate=5.0)], paths, strict=True):
        save_checkpoint(one, path)
    return paths


def test_the_command_writes_a_proved_bundle(
    command: Command, checkpoints: list[Path], tmp_path: Path
) -> None:
    labels, out = tmp_path / "labels.txt", tmp_path / "b"
    labels.write_text("".join(f"{x}\n" for x in LABELS))
    arguments = ["--format", "onnx", "--labels", labels, "--zip", "--out", out]
    code, said, errors = command("ensemble", *checkpoints[:2], *arguments)
    assert code == 0, errors
    assert "model_b.onnx" in said
    assert said.splitlines()[-1] == f"wrote {out}.zip"
    assert "note" not in errors
    bundle = Bundle(tmp_path / "b.zip")
    assert bundle.labels == list(LABELS)
    record = VerifyRecord.model_validate_json((bundle.root / "parity.json").read_bytes())
    assert record.holds
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.zip", "labels.txt"]


def test_a_copy_is_noted(command: Command, checkpoints: list[Path], tmp_path: Path) -> None:
    arguments = ["--format", "onnx", "--no-verify", "--out", tmp_path / "b"]
    code, _, errors = command("ensemble", checkpoints[0], checkpoints[0], *arguments)
    assert code == 0
    assert "note: some members have the same weights" in errors
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        ([0], "2 to 26 checkpoints, not 1"),
        ([1, 2], "frame_rate: 5.0 instead of 2.5"),
    ],
)
def test_the_command_refuses(
    command: Command, checkpoints: list[Path], tmp_path: Path, sources: list[int], reason: str
) -> None:
    code, _, errors = command(
        "ensemble", *(checkpoints[i] for i in sources), "--out", tmp_path / "b"
    )
    assert code == 2
    (error,) = [line for line in errors.splitlines() if not line.startswith("ensemble: ")]
    assert error.startswith("error: ")
    assert reason in error
    assert not list(tmp_path.iterdir())


def test_inspect_and_run(command: Command, ensemble: Path, tmp_path: Path) -> None:
    code, said, _ = command("inspect", ensemble)
    assert code == 0
    for text in ("every 2 frames from 1 on", "the mean of what each graph gave last", "at 5 per"):
        assert text in said
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for image in moving_pattern(14, 64, 96):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    answers = [
        command("run", ensemble, path, "--json", "--backend", backend)[1].splitlines()
        for backend in ("litert", "torch")
    ]
    assert [len(lines) for lines in answers] == [7, 7]  # the bundle's rate, twice the members'
