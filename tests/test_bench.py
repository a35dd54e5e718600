"""Benchmarks: arithmetic, wiring, records and tiny runs. Nothing here asserts a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movinet_edge.benchmarks import host, machine, output, stats
from movinet_edge.benchmarks.bundled import macs_per_step
from movinet_edge.benchmarks.contestant import EngineClock, Entry, clips, fit_frames
from movinet_edge.benchmarks.line_up import is_bundle, peer_entries, start, with_unique_labels
from movinet_edge.benchmarks.peers import image_view, read_wiring, ways_of
from movinet_edge.benchmarks.record import (
    Alone,
    GraphFile,
    Machine,
    Measurement,
    Method,
    Report,
    Subject,
)
from movinet_edge.benchmarks.timing import WARMUP, Timed, interleaved, paced, prepare
from movinet_edge.benchmarks.wiring import Tensor, bare_name, frame_size, wire
from movinet_edge.bundle import MANIFEST, Bundle
from movinet_edge.errors import BadInput, CheckFailed

SHARED = Path(os.environ.get("MOVINET_EDGE_SHARED", "../shared"))
OFFICIAL = SHARED / "data/official_a0/movinet_a0_stream_fp32.tflite"


def tensor(name: str, *shape: int, dtype: str = "float32") -> Tensor:
    return Tensor(name=name, shape=shape, dtype=dtype)


FRAME = tensor("image", 1, 1, 8, 6, 3)
LOGITS = tensor("logits", 1, 5)


# Arithmetic


def test_percentiles_interpolate() -> None:
    found = stats.distribution(range(101))
    assert (found.min, found.p10, found.p50, found.p90, found.p99) == (0, 10, 50, 90, 99)
    assert stats.distribution([1.0, 2.0]).p50 == 1.5
    assert stats.distribution([7.0]).p99 == 7.0


def test_ratio_of_pairs_survives_drift() -> None:
    drift = np.linspace(1, 3, 50)  # the machine slows down; both feel it alike
    found = stats.compare("ours", 2 * drift, "theirs", 4 * drift, paired=True)
    assert found.ratio_of_medians == pytest.approx(0.5)
    assert found.paired is not None
    assert found.paired.p10 == pytest.approx(0.5)
    assert found.paired.p90 == pytest.approx(0.5)
    assert stats.compare("a", [1.0], "b", [2.0, 2.0], paired=False).paired is None


def test_percent_of_the_peak() -> None:
    assert stats.peak_percent(50e6, 1.0, 100.0) == pytest.approx(50)
    assert stats.peak_percent(None, 1.0, 100.0) is None


def test_clips_wrap_and_frames_are_fitted() -> None:
    frames = np.arange(5, dtype=np.uint8)
    assert [[int(f) for f in clip] for clip in clips(frames, 2)] == [[0, 1], [2, 3]]
    assert [int(f) for f in clips(frames, 7)[0]] == [0, 1, 2, 3, 4, 0, 1]
    video = np.full((2, 8, 6, 3), 200, np.uint8)
    assert fit_frames(video, (8, 6)) is video
    fitted = fit_frames(video, (4, 5))
    assert fitted.shape == (2, 4, 5, 3)
    assert (fitted == 200).all()


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


# Timing, on contestants that only count


class Counting:
    """Binds buffers for the first `period` steps; notes who stepped in `log`."""

    def __init__(self, label: str, log: list[str], period: int = 0):
        self.entry = Entry(label=label, name=label, kind="bundle", path=Path(), way="none")
        self.clock = EngineClock()
        self.frame_size, self.frames_per_step = (2, 2), 1
        self._log, self._period = log, period
        self._run: Callable[[], None] = self.clock.timed(lambda: None)

    def step(self, clip: Iterable[np.ndarray]) -> np.ndarray:
        self.clock.binds += self.clock.binds < self._period
        self._run()
        self._log.append(self.entry.label)
        return np.zeros(1)

    def reset(self) -> None: ...

    def close(self) -> None: ...

    def describe(self) -> Subject:
        raise NotImplementedError


FRAMES = np.zeros((3, 2, 2, 3), np.uint8)


def test_rounds_are_complete_shuffled_and_repeatable() -> None:
    def run() -> tuple[list[str], list[Timed]]:
        log: list[str] = []
        line_up = [Timed(Counting(n, log), clips(FRAMES, 1)) for n in "abc"]
        interleaved(line_up, 20, 0, lambda _: None)
        return log, line_up

    log, line_up = run()
    rounds = {tuple(log[i : i + 3]) for i in range(0, 60, 3)}
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds)
    assert len(rounds) > 1
    assert run()[0] == log
    for timed in line_up:
        assert len(timed.step) == len(timed.engine) == len(timed.cpu) == 20
        assert all(0 <= e <= s for e, s in zip(timed.engine, timed.step, strict=True))


@pytest.mark.parametrize("period", [0, 7, 30])
def test_warm_up_sees_every_assignment(period: int) -> None:
    assert prepare(Counting("a", [], period), FRAMES).warmup == period + WARMUP


def test_paced_steps_are_counted() -> None:
    timed = Timed(Counting("a", []), clips(FRAMES, 1))
    paced(timed, 4, 500.0)
    assert len(timed.step) == 4
    assert timed.late is not None


def test_clips_are_compared_per_frame() -> None:
    contestant = Counting("a", [])
    contestant.frames_per_step = 4
    assert Timed(contestant, [], step=[8.0, 4.0]).per_frame == [2.0, 1.0]


# Records


def example_report() -> Report:
    file = GraphFile(
        graph="step", form="fresh", file="step.tflite", sha256="0", bytes=1, partitions=1
    )
    subject = Subject(
        label="x",
        name="x",
        kind="bundle",
        backend="x",
        engine="e",
        engine_version="1",
        files=[file],
    )
    some = stats.distribution([1.0, 2.0])
    measurement = Measurement(
        subject=subject,
        method=Method(threads=1, warmup=1, steps=2, mode="back-to-back", interleaved=True),
        step_ms=some,
        engine_ms=some,
        overhead_ms=0.5,
        cpu_ms=1.0,
        alone=Alone(load_ms=1, first_step_ms=1, base_memory_mb=None, peak_memory_mb=None),
    )
    where = Machine(
        cpu="c",
        architecture="a",
        cores=1,
        governor=None,
        temperature_c=None,
        os="o",
        python="3",
        sgemm_gmacs=1.0,
    )
    return Report(
        date="2000-01-01T00:00:00+00:00",
        machine=where,
        tools={},
        seed=0,
        measurements=(measurement,),
        comparisons=(stats.compare("x", [1.0, 2.0], "x", [1.0, 2.0], paired=True),),
    )


def test_report_comes_back_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    with output.report_file(target) as write:
        write(example_report())
    assert Report.model_validate_json(target.read_text()) == example_report()
    assert list(tmp_path.iterdir()) == [target]


def test_unknown_fields_are_refused() -> None:
    fields = json.loads(example_report().model_dump_json())
    with pytest.raises(ValueError, match="surprise"):
        Report.model_validate({**fields, "surprise": 1})


def test_a_failed_run_leaves_the_old_report(tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    target.write_text("old")
    with pytest.raises(CheckFailed), output.report_file(target):
        raise CheckFailed("no")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("place", [".", "nowhere/r.json", "file/r.json"])
def test_unwritable_places_are_bad_input(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    reason = r"is a directory|cannot be written"
    with pytest.raises(BadInput, match=reason), output.report_file(tmp_path / place):
        pass


def test_a_busy_machine_is_told() -> None:
    (measured,) = example_report().measurements
    assert host.busy_note([measured])  # 1.5 ms of which 1 on the CPU
    assert not host.busy_note([measured.model_copy(update={"cpu_ms": 1.5})])
    assert not host.busy_note([])


def test_the_table_has_a_row_each() -> None:
    report = example_report()
    assert output.table(report).row_count == len(report.measurements)
    assert "1 cores" in output.machine_line(report.machine)


def test_labels_tell_threads_and_files_apart() -> None:
    one = Entry(label="x", name="x", kind="peer", path=Path("a/x"), way="litert")
    same = one.model_copy(update={"path": Path("b/x")})
    two = one.model_copy(update={"threads": 2})
    assert [e.label for e in with_unique_labels([one, same])] == ["x #1", "x #2"]
    assert [e.label for e in with_unique_labels([one, two])] == ["x, 1 thread", "x, 2 threads"]


def test_cpu_names() -> None:
    assert machine.cpu_name("processor : 0\nmodel name\t: Big One\nmodel name : Other") == "Big One"
    assert machine.cpu_name("Hardware : X9\nModel : Board 5") == "Board 5"
    assert machine.cpu_name("")


def test_temperature_of_the_hottest_zone(tmp_path: Path) -> None:
    assert machine.temperature(tmp_path) is None
    for zone, reading in enumerate(["41000", "52500", "broken"]):
        (tmp_path / f"thermal_zone{zone}").mkdir()
        (tmp_path / f"thermal_zone{zone}/temp").write_text(reading)
    assert machine.temperature(tmp_path) == 52.5


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


def test_the_official_model_is_wired_and_both_ways_agree() -> None:
    pytest.importorskip("ai_edge_litert")
    if not OFFICIAL.is_file():
        pytest.skip(f"{OFFICIAL} is absent; set MOVINET_EDGE_SHARED")
    assert set(ways_of(OFFICIAL)) == {"interpreter", "litert"}
    entries = peer_entries(OFFICIAL, [1])
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
        assert measured.method.steps == 3
        assert measured.alone.load_ms > 0
        assert measured.overhead_ms > 0
    accelerated = [m.subject.files[0] for m in report.measurements if m.subject.label == "litert"]
    assert all(f.partitions == 1 and f.fully_accelerated for f in accelerated)


def test_bench_against_a_bundle_and_a_peer(a0_bundle: Path, onnx_peer: Path) -> None:
    options = host.Options(["ort"], steps=2, paced=True, against=[onnx_peer, a0_bundle])
    report = host.bench(a0_bundle, options)
    names = [m.subject.name for m in report.measurements]
    assert names[:2] == ["onnxruntime", "peer (onnxruntime, zero-copy)"]
    assert f"{a0_bundle.stem}: onnxruntime" in names
    assert {c.baseline for c in report.comparisons} == {names[1]}
    assert all(c.paired is None for c in report.comparisons)
    assert {m.method.mode for m in report.measurements} == {"paced"}


def test_wrong_numbers_have_no_latency(a0_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    wrong = tmp_path / "wrong"
    shutil.copytree(a0_bundle, wrong)
    manifest = json.loads((wrong / MANIFEST).read_text())
    manifest["thresholds"]["fp32"]["max_error"] = 0.0
    (wrong / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckFailed, match="computes wrong numbers"):
        host.bench(wrong, host.Options(["onnxruntime"], steps=1))


@pytest.mark.parametrize(
    "options",
    [
        host.Options(["nothing"]),
        host.Options(threads=[0]),
        host.Options(steps=0),
        host.Options(against=[Path("nowhere.tflite")]),
        host.Options(["torch"], threads=[1, 2]),
    ],
)
def test_bad_options(a0_bundle: Path, options: host.Options) -> None:
    with pytest.raises(BadInput):
        host.bench(a0_bundle, options)


def test_bundles_are_known_by_their_names(tmp_path: Path) -> None:
    assert is_bundle(tmp_path)
    assert is_bundle(Path("a.zip"))
    assert not is_bundle(Path("a.tflite"))
