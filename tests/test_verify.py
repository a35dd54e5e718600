"""``verify`` holds on a good bundle, and says where a bad one goes wrong."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from movinet_edge.bundle import MANIFEST, Bundle, Manifest, ModelFile, Threshold, sha256_of
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.exporter import ExportOptions, export
from movinet_edge.export.report import write_html, write_json, write_junit
from movinet_edge.export.verify import verify_bundle
from movinet_edge.export.verify_record import VerifyRecord, measure, shortcomings
from movinet_edge.models.registry import default_preprocessing, named_arch, seeded_model
from movinet_edge.pattern import moving_pattern
from tests.bundles import weight_of
from tests.commands import Command
from tests.videos import encode_video

STEPS = 6
LIMITS = Threshold(max_error=1e-4, min_cosine=0.999999, min_top1_agreement=1.0)

EditFile = Callable[[ModelFile], ModelFile]
EditModel = Callable[[onnx.ModelProto], None]


def variant(
    bundle: Path,
    folder: Path,
    model: EditModel | None = None,
    file: EditFile = lambda file: file,
) -> Bundle:
    """A copy of a bundle with an edited ONNX model, or an edited manifest entry of it."""
    shutil.copytree(bundle, folder, copy_function=os.link)
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    (graph,) = manifest.graphs
    (entry,) = [f for f in graph.files if f.format == "onnx"]
    path = folder / entry.path
    if model is not None:
        proto = onnx.load(path)
        model(proto)
        path.unlink()  # the original is a link to the same file
        onnx.save(proto, path)
    changed = file(entry.model_copy(update={"sha256": sha256_of(path)}))
    files = tuple(changed if f is entry else f for f in graph.files)
    graphs = (graph.model_copy(update={"files": files}),)
    (folder / MANIFEST).unlink()
    text = manifest.model_copy(update={"graphs": graphs}).model_dump_json()
    (folder / MANIFEST).write_text(text, "utf-8")
    return Bundle(folder)


def weights(name: str, change: Callable[[np.ndarray], np.ndarray]) -> EditModel:
    """Change the weights called `name`."""

    def edit(model: onnx.ModelProto) -> None:
        (found,) = [w for w in model.graph.initializer if w.name == name]
        found.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(found)), name))

    return edit


def noisy(values: np.ndarray) -> np.ndarray:
    return (values + np.random.default_rng(1).normal(0, values.std(), values.shape)).astype("f4")


def bind_states(names: dict[str, str], role: str) -> EditFile:
    """Bind the tensors of states to other states."""

    def edit(file: ModelFile) -> ModelFile:
        specs = tuple(
            spec.model_copy(update={"state": names.get(spec.state or "", spec.state)})
            for spec in getattr(file, role)
        )
        return file.model_copy(update={role: specs})

    return edit


def swap_slots(file: ModelFile) -> ModelFile:
    """Give the graph the two past frames of one buffer in the wrong order."""
    inputs = tuple(
        spec.model_copy(update={"slot": 1 - (spec.slot or 0)})
        if spec.state == "b1.l1.stream"
        else spec
        for spec in file.inputs
    )
    return file.model_copy(update={"inputs": inputs})


def verified(bundle: Bundle, **options: object) -> VerifyRecord:
    """Verify the ONNX file alone: quick to load and to run."""
    return verify_bundle(bundle, ["onnxruntime"], steps=STEPS, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def good(a0_bundle: Path) -> VerifyRecord:
    return verify_bundle(Bundle(a0_bundle))


@pytest.fixture(scope="module")
def bad(a0_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> VerifyRecord:
    folder = tmp_path_factory.mktemp("bad") / "<b>bundle"
    return verified(variant(a0_bundle, folder, weights(weight_of(5, "spatial.weight"), noisy)))


def test_good_bundle_holds_on_every_backend(good: VerifyRecord) -> None:
    assert good.holds, good.failures
    assert {"litert", "litert-interpreter", "onnxruntime", "torch"} <= {
        s.backend for s in good.streams
    }
    for stream in good.streams:
        assert stream.figures is not None
        assert len(stream.figures.error) == stream.steps >= 32
        assert stream.figures.max_error < 1e-4
        assert stream.figures.top1_agreement == stream.figures.top5_agreement == 1
    names = {check.name for check in good.of_kind("property")}
    assert {
        "every state input matters",
        "reset forgets the stream",
        "tensors bind by name",
    } <= names
    assert {fact.format for fact in good.facts} == {"onnx", "tflite"}


LAYERS = named_arch("movinet-a0-stream").table.layers()


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        (weight_of(5, "spatial.weight"), f"{LAYERS[5].name}.stream"),
        (weight_of(5, "temporal.bias"), f"{LAYERS[5].name}.pool"),
        (weight_of(4, "gate.reduce.weight"), f"{LAYERS[5].name}.stream"),
        ("body.stem.weight", f"{LAYERS[0].name}.pool"),
        ("classify.weight", "head (after head.pool)"),
    ],
)
def test_altered_weights_fail_and_the_layer_is_named(
    a0_bundle: Path, tmp_path: Path, name: str, layer: str
) -> None:
    def edit(model: onnx.ModelProto) -> None:
        (full,) = [w.name for w in model.graph.initializer if w.name.endswith(name)]
        weights(full, noisy)(model)

    record = verified(variant(a0_bundle, tmp_path / "bundle", edit), properties=False)
    (stream,) = record.streams
    assert not record.holds
    assert stream.bad_step == 0
    assert stream.first_layer == layer


def test_stale_buffer_in_the_manifest_fails(a0_bundle: Path, tmp_path: Path) -> None:
    (stream,) = verified(variant(a0_bundle, tmp_path / "b", file=swap_slots)).streams
    # Step 0 reads nothing but zeros; step 1 finds the first frame in the wrong place.
    assert stream.bad_step == 1
    assert stream.first_layer == "b1.l1.pool"


@pytest.mark.parametrize("role", ["inputs", "outputs"])
def test_swapped_states_in_the_manifest_fail(a0_bundle: Path, tmp_path: Path, role: str) -> None:
    names = {"b1.l0.stream": "b1.l1.stream", "b1.l1.stream": "b1.l0.stream"}
    bundle = variant(a0_bundle, tmp_path / "b", file=bind_states(names, role))
    (stream,) = verified(bundle).streams
    assert stream.bad_step == 1
    assert stream.first_layer in ("b1.l0.stream", "b1.l0.pool")


def test_state_input_without_effect_is_named(a0_bundle: Path, tmp_path: Path) -> None:
    def drop_oldest(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[:, :, 0] = 0
        return values

    def edit(model: onnx.ModelProto) -> None:
        (window,) = [n for n in model.graph.node if "b1_l1_stream_0" in n.input]
        (conv,) = [n for n in model.graph.node if window.output[0] in n.input]
        weights(conv.input[1], drop_oldest)(model)

    record = verified(variant(a0_bundle, tmp_path / "b", edit))
    (check,) = [c for c in record.of_kind("property") if not c.holds]
    assert check.name == "every state input matters"
    assert check.detail == "no effect: b1_l1_stream_0"


def test_names_that_the_file_lacks_fail(a0_bundle: Path, tmp_path: Path) -> None:
    def rename(file: ModelFile) -> ModelFile:
        first, *rest = file.inputs
        inputs = (first.model_copy(update={"name": "image"}), *rest)
        return file.model_copy(update={"inputs": inputs})

    record = verified(variant(a0_bundle, tmp_path / "b", file=rename))
    failed = {check.name for check in record.failures}
    assert {"parity on golden", "names as in the manifest"} <= failed
    assert "frame" in (record.streams[0].failure or "")


def test_bytes_in_and_probabilities_out(tmp_path: Path) -> None:
    arch = named_arch("movinet-a0-stream")
    contract = default_preprocessing(arch).model_copy(update={"height": 64, "width": 64})
    checkpoint = Checkpoint(seeded_model(arch), contract)
    options = ExportOptions(("onnx",), in_graph_preprocess=True, softmax=True, verify=False)
    export(checkpoint, tmp_path / "b", options)
    record = verify_bundle(Bundle(tmp_path / "b"), steps=40, properties=False)
    assert record.holds, record.failures
    assert {s.backend: s.steps for s in record.streams} == {"onnxruntime": 40, "torch": 40}
    assert {s.reference for s in record.streams} == {"PyTorch clip"}


def test_video_is_streamed_too(a0_bundle: Path, tmp_path: Path, call: Command) -> None:
    images = moving_pattern(9, 64, 96)
    path = encode_video(tmp_path / "clip.mp4", images, rate=5, codec="mpeg4")
    record = verified(Bundle(a0_bundle), videos=[path], properties=False)
    assert record.holds, record.failures
    assert [(s.stream, s.steps) for s in record.streams] == [("golden", STEPS), ("clip.mp4", STEPS)]
    missing = tmp_path / "missing.mp4"
    assert call("verify", a0_bundle, "--video", missing)[0] == 2


def test_without_torch_the_stored_answers_serve(
    a0_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torch" else find(name, *a)
    )
    bundle = Bundle(a0_bundle)
    record = verified(bundle, properties=False)
    assert record.holds
    assert record.streams[0].reference == "stored answers"
    assert "movinet-edge[export]" in record.notes[0]
    with pytest.raises(BadInput, match=r"movinet-edge\[export\]"):
        verify_bundle(bundle, ["onnxruntime"], steps=1000)
    with pytest.raises(BadInput, match=r"movinet-edge\[export\]"):
        verify_bundle(bundle, ["onnxruntime"], videos=["clip.mp4"])


def test_exit_codes(a0_bundle: Path, tmp_path: Path, call: Command) -> None:
    arguments = ["--backend", "ort", "--steps", STEPS]
    junit, html, json = (tmp_path / "out" / name for name in ("p.xml", "r.html", "p.json"))
    files = ["--junit", junit, "--html", html, "--json", json]
    code, out, _ = call("verify", a0_bundle, *arguments, *files)
    assert code == 0
    assert out.rstrip().endswith("\nparity holds")
    assert sorted(p.name for p in junit.parent.iterdir()) == ["p.json", "p.xml", "r.html"]
    broken = variant(a0_bundle, tmp_path / "b", weights(weight_of(5, "spatial.weight"), noisy))
    code, out, _ = call("verify", broken.path, *arguments)
    assert code == 1
    last = out.rstrip().splitlines()[-1]
    assert last.startswith("parity does not hold: onnxruntime fp32, parity on golden: error")
    assert f"in {LAYERS[5].name}.stream" in last
    for wrong in (["--backend", "quantum"], ["--steps", "0"], ["--json", tmp_path]):
        assert call("verify", a0_bundle, *arguments, *wrong)[0] == 2
    assert call("verify", tmp_path / "nowhere")[0] == 2


def test_json_round_trips(bad: VerifyRecord, good: VerifyRecord, tmp_path: Path) -> None:
    for record in (bad, good):
        write_json(record, tmp_path / "r.json")
        assert VerifyRecord.model_validate_json((tmp_path / "r.json").read_bytes()) == record


def test_junit_has_a_case_per_check(bad: VerifyRecord, tmp_path: Path) -> None:
    write_junit(bad, tmp_path / "r.xml")
    root = ElementTree.parse(tmp_path / "r.xml").getroot()
    assert root.tag == "testsuites"
    assert len(root.findall("testsuite/testcase")) == len(bad.checks) == int(root.attrib["tests"])
    failures = root.findall("testsuite/testcase/failure")
    assert len(failures) == len(bad.failures) == int(root.attrib["failures"]) > 0
    assert any(f"{LAYERS[5].name}.stream" in f.attrib["message"] for f in failures)


def test_html_is_self_contained_and_escaped(bad: VerifyRecord, tmp_path: Path) -> None:
    (stream,) = bad.streams
    nasty = stream.model_copy(update={"stream": "<script>alert(1)</script>.mp4"})
    record = bad.model_copy(update={"streams": (nasty,)})
    write_html(record, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search(r"""(src|href|url\()\s*=?\s*["']?(https?:)?//""", page)
    assert "@import" not in page
    for part in ("Parity does not hold", "<svg", "HardSwish", record.provenance.checkpoint_sha256):
        assert part in page
    write_html(record, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text("utf-8") == page


def test_unwritable_place_is_refused(good: VerifyRecord, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        write_json(good, tmp_path / "file" / "r.json")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_close_calls_are_not_judged() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(8, 10))
    reference[3, 5] = reference[3].max() + 1e-5
    reference[3, 6] = reference[3, 5] - 1e-6
    answers = reference.copy()
    answers[3, [5, 6]] = reference[3, [6, 5]]
    figures = measure(reference, answers, LIMITS)
    assert figures.top1[3] is None
    assert set(figures.top1[:3]) == {True}
    assert not shortcomings(figures, LIMITS)
    answers[0] = -answers[0]
    figures = measure(reference, answers, LIMITS)
    assert figures.top1[0] is False
    assert figures.top1_agreement == pytest.approx(6 / 7)
    assert len(shortcomings(figures, LIMITS)) == 3


def test_the_direction_of_next_to_nothing_is_not_judged() -> None:
    reference = np.array([[0.1, -0.1], [2.0, -1.0], [3.0, 1.0]])
    turned = np.array([[-0.1, 0.1], [2.0, -1.0], [3.0, 1.0]])
    figures = measure(reference, turned, LIMITS)
    assert figures.cosine[0] is None
    assert figures.min_cosine == pytest.approx(1)
    assert "error" in shortcomings(figures, LIMITS)[0], "its error counts all the same"
    assert measure(reference[:1], turned[:1], LIMITS).min_cosine == pytest.approx(-1)
    assert not shortcomings(measure(np.zeros((2, 3)), np.zeros((2, 3)), LIMITS), LIMITS)


def test_growth_and_values_that_are_no_numbers() -> None:
    reference = np.random.default_rng(0).normal(size=(40, 10))
    drift = np.arange(1, 41)[:, None] * 1e-6
    figures = measure(reference, reference + drift * reference.std(), LIMITS)
    assert figures.growth_slope == pytest.approx(1e-6)
    assert figures.growth_ratio == pytest.approx(35.5 / 5.5)
    exact = measure(reference, reference, LIMITS)
    assert (exact.growth_slope, exact.growth_ratio) == (pytest.approx(0), None)
    broken = reference.copy()
    broken[7, 2] = np.nan
    figures = measure(reference, broken, LIMITS)
    assert shortcomings(figures, LIMITS) == ["the answers hold NaN or infinity"]
    assert figures.model_validate_json(figures.model_dump_json()) == figures
