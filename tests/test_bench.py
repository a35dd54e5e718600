"""Benchmarks: wiring by name, peers and tiny runs. Nothing here asserts a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movinet_edge.benchmarks import host
from movinet_edge.benchmarks.bundled import macs_per_step
from movinet_edge.benchmarks.contestant import Entry
from movinet_edge.benchmarks.line_up import is_bundle, peer_entries, start
from movinet_edge.benchmarks.peers import image_view, read_wiring, ways_of
from movinet_edge.benchmarks.record import Report
from movinet_edge.benchmarks.wiring import Tensor, bare_name, frame_size, wire
from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput, CheckFailed
from tests.bundles import edited


def tensor(name: str, *shape: int, dtype: str = "float32") -> Tensor:
    return Tensor(name=name, shape=shape, dtype=dtype)


FRAME = tensor("image", 1, 1, 8, 6, 3)
LOGITS = tensor("logits", 1, 5)


# Wiring by name


@pytest.mark.parametrize(
    "name",
    ["pool", "pool_out", "new_pool", "pool.next", "serving_default_pool:0", "next_pool_new:0"],
)
def test_decorations_come_off(name: str) -> None:
    assert bare_name(name) == "pool"


@pytest.mark.parametrize("name", ["new", "output", "in", "_out"])
def test_a_name_is_never_emptied(name: str) -> None:
    assert bare_name(name)


def test_states_pair_by_name_not_by_position() -> None:
    states = [tensor("a", 1, 4), tensor("b", 1, 4), tensor("n", 1, dtype="int32")]
    wiring = wire([states[2], FRAME, states[0], states[1]], [states[1], LOGITS, *states[::2]])
    assert [(i.name, o.name) for i, o in wiring.states] == [("n", "n"), ("a", "a"), ("b", "b")]
    assert wiring.frame == FRAME
    assert wiring.frame_size == (8, 6)
    assert wiring.answers == (LOGITS,)


def test_decorated_states_pair_and_equal_names_win() -> None:
    inputs = [tensor("serving_default_a:0", 4), tensor("b", 2), tensor("image:0", 1, 3, 8, 6)]
    outputs = [tensor("b_new", 9), tensor("a.next", 4), tensor("b", 2)]
    wiring = wire(inputs, outputs)
    pairs = {i.name: o.name for i, o in wiring.states}
    assert pairs == {"serving_default_a:0": "a.next", "b": "b"}
    assert [t.name for t in wiring.answers] == ["b_new"]


def test_ambiguous_bare_names_are_not_guessed() -> None:
    outputs = [tensor("a_new", 4), tensor("a_next", 4), LOGITS]
    with pytest.raises(BadInput, match="inputs a_in"):
        wire([FRAME, tensor("a_in", 4)], outputs)


def test_unmatched_inputs_are_listed() -> None:
    with pytest.raises(BadInput, match="inputs lost, other;"):
        wire([FRAME, tensor("other", 2), tensor("lost", 2)], [LOGITS])


@pytest.mark.parametrize("after", [tensor("a", 5), tensor("a", 4, dtype="int32")])
def test_ends_of_a_state_must_be_alike(after: Tensor) -> None:
    with pytest.raises(BadInput, match="state 'a' goes in as"):
        wire([FRAME, tensor("a", 4)], [LOGITS, after])


def test_a_frame_and_an_answer_are_needed() -> None:
    a = tensor("a", 4)
    with pytest.raises(BadInput, match="no frame input"):
        wire([a], [a, LOGITS])
    with pytest.raises(BadInput, match="no answer"):
        wire([FRAME, a], [a])


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 8, 6, 3), (8, 6)),
        ((1, 3, 8, 6), (8, 6)),
        ((1, 1, 8, 6, 3), (8, 6)),
        ((1, 3, 1, 8, 6), (8, 6)),
        ((1, 1, 3, 8, 6), (8, 6)),
        ((1, 4, 8, 6, 3), None),  # a clip
        ((1, 8, 6, 4), None),
        ((8, 6, 3), None),
    ],
)
def test_frames_of_any_layout(shape: tuple[int, ...], size: tuple[int, int] | None) -> None:
    assert frame_size(tensor("x", *shape)) == size
    if size is not None:
        view = image_view(np.zeros(shape, np.float32))
        assert view.shape == (*size, 3)
        assert view.base is not None


def test_bytes_are_no_frame_in_zero_to_one() -> None:
    assert frame_size(tensor("x", 1, 8, 6, 3, dtype="uint8")) is None


# Peers


@pytest.fixture
def onnx_peer(tmp_path: Path) -> Path:
    """Adds each frame's mean and counts frames; permuted and decorated names, channels first."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, types = onnx.helper, onnx.TensorProto

    def value(name: str, kind: int, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Add", ["total_in", "mean"], ["total_out"]),
        helper.make_node("Add", ["count", "one"], ["new_count"]),
        helper.make_node("Cast", ["new_count"], ["counted"], to=types.FLOAT),
        helper.make_node("Concat", ["total_out", "counted"], ["logits"], axis=0),
    ]
    graph = helper.make_graph(
        nodes,
        "peer",
        [
            value("count", types.INT64, 1),
            value("image", types.FLOAT, 1, 3, 8, 6),
            value("total_in", types.FLOAT, 1),
        ],
        [
            value("total_out", types.FLOAT, 1),
            value("logits", types.FLOAT, 2),
            value("new_count", types.INT64, 1),
        ],
        [helper.make_tensor("one", types.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "peer.onnx"
    onnx.save(model, path)
    return path


def test_an_onnx_peer_carries_its_states(onnx_peer: Path) -> None:
    (entry,) = peer_entries(onnx_peer, [1])
    contestant = start(Entry.model_validate_json(entry.model_dump_json()))
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), np.uint8)
    for _ in range(2):
        contestant.reset()
        for number, frame in enumerate(frames):
            answer = contestant.step([frame])
            expected = (frames[: number + 1] / 255).mean((1, 2, 3)).sum()
            np.testing.assert_allclose(answer, [expected, number + 1], rtol=1e-5)
    assert contestant.clock.spent > 0
    assert contestant.describe().files[0].partitions is None
    contestant.close()


@pytest.mark.parametrize("name", ["no.tflite", "no.onnx", "no.txt"])
def test_missing_and_foreign_peers(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput):
        peer_entries(tmp_path / name, [1])


@pytest.mark.parametrize("engine", ["ai_edge_litert", "onnxruntime"])
def test_damaged_peers(tmp_path: Path, engine: str) -> None:
    pytest.importorskip(engine)
    path = tmp_path / ("x.onnx" if engine == "onnxruntime" else "x.tflite")
    path.write_bytes(b"not a model")
    with pytest.raises(BadInput, match="cannot be loaded"):
        read_wiring(path)


def test_the_official_model_is_wired_and_both_ways_agree(shared: Callable[[str], Path]) -> None:
    pytest.importorskip("ai_edge_litert")
    official = shared("data/official_a0/movinet_a0_stream_fp32.tflite")
    assert set(ways_of(official)) == {"interpreter", "litert"}
    entries = peer_entries(official, [1])
    wiring = entries[0].wiring
    assert wiring is not None
    assert wiring.frame.name == "image"
    assert [t.name for t in wiring.answers] == ["logits"]
    assert all(before.name == after.name for before, after in wiring.states)
    assert sum(before.dtype == "int32" for before, _ in wiring.states) == 16
    frames = np.random.default_rng(0).integers(0, 256, (4, 172, 172, 3), np.uint8)
    answers = []
    for entry in entries:
        contestant = start(entry)
        answers.append(np.stack([contestant.step([frame]) for frame in frames]))
        contestant.close()
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)
    assert np.abs(np.diff(answers[0], axis=0)).max() > 0.01


# Whole runs


def test_bench_of_a_bundle(a0_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from movinet_edge.cli.bench import bench

    target = tmp_path / "report.json"
    bench(a0_bundle, steps=3, json_file=target)
    report = Report.model_validate_json(target.read_text())
    labels = [m.subject.label for m in report.measurements]
    assert "onnxruntime" in labels
    assert "torch" not in labels
    assert [c.label for c in report.comparisons] == labels
    assert report.comparisons[0].ratio_of_medians == 1
    manifest = Bundle(a0_bundle).manifest
    for measured in report.measurements:
        assert measured.subject.macs_per_step == macs_per_step(manifest, 1)
        assert (measured.method.steps, measured.method.rounds) == (3, 3)
        assert measured.alone.load_ms > 0
        assert measured.overhead_ms > 0
    accelerated = [m.subject.files[0] for m in report.measurements if m.subject.label == "litert"]
    assert all(f.partitions == 1 and f.fully_accelerated for f in accelerated)


def test_bench_against_a_bundle_and_a_peer(a0_bundle: Path, onnx_peer: Path) -> None:
    options = host.Options(["ort"], steps=2, mode="paced", against=[onnx_peer, a0_bundle])
    report = host.bench(a0_bundle, options)
    names = [m.subject.name for m in report.measurements]
    assert names[:2] == ["onnxruntime", "peer (onnxruntime, zero-copy)"]
    assert f"{a0_bundle.stem}: onnxruntime" in names
    assert {c.baseline for c in report.comparisons} == {names[1]}
    assert all(c.paired is None for c in report.comparisons)
    assert {m.method.mode for m in report.measurements} == {"paced"}


def test_wrong_numbers_have_no_latency(a0_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")

    def change(manifest: dict[str, Any]) -> None:
        manifest["thresholds"]["fp32"]["max_error"] = 0.0

    wrong = edited(a0_bundle, tmp_path / "wrong", change)
    with pytest.raises(CheckFailed, match="computes wrong numbers"):
        host.bench(wrong, host.Options(["onnxruntime"], steps=1))


@pytest.mark.parametrize(
    "options",
    [
        host.Options(["nothing"]),
        host.Options(threads=[0]),
        host.Options(steps=0),
        host.Options(against=[Path("nowhere.tflite")]),
        host.Options(["onnxruntime"], steps=4, peers=True),
        host.Options(["onnxruntime"], steps=4, mode="sustained"),
        host.Options(["onnxruntime"], minutes=1, mode="cold"),
    ],
)
def test_bad_options(a0_bundle: Path, options: host.Options) -> None:
    with pytest.raises(BadInput):
        host.bench(a0_bundle, options)


def test_bundles_are_known_by_their_names(tmp_path: Path) -> None:
    assert is_bundle(tmp_path)
    assert is_bundle(Path("a.zip"))
    assert not is_bundle(Path("a.tflite"))


def test_ratios_are_to_the_baseline_on_as_many_threads(a0_bundle: Path) -> None:
    pytest.importorskip("onnxruntime")
    report = host.bench(a0_bundle, host.Options(["ort"], (1, 2), steps=2, against=[a0_bundle]))
    threads = {m.subject.label: m.method.threads for m in report.measurements}
    assert {(threads[c.label], threads[c.baseline]) for c in report.comparisons} == {(1, 1), (2, 2)}
