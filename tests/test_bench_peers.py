"""Other engines on the bundle's weights, and the modes, on a small bundle. No time is asserted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movinet_edge.benchmarks import child, host
from movinet_edge.benchmarks.contestant import Entry
from movinet_edge.benchmarks.line_up import engine_entries
from movinet_edge.benchmarks.peer_engines import PEERS
from movinet_edge.benchmarks.record import Report
from movinet_edge.bundle import Bundle
from movinet_edge.runtime import Stream
from tests.bundles import edited
from tests.commands import Command, Refused


@pytest.fixture
def only_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no other engine were there."""
    for name, peer in PEERS.items():
        if name != "pytorch":
            monkeypatch.setitem(PEERS, name, replace(peer, needs="not_installed_anywhere"))


@pytest.mark.parametrize("name", PEERS)
def test_every_engine_answers_as_the_model_does(
    small_bundle: Path, tmp_path: Path, name: str
) -> None:
    """In a process of its own: what is needed is loaded, converted and compared."""
    if not PEERS[name].installed:
        pytest.skip(f"{name} is not installed: {PEERS[name].advice}")
    entry = Entry(label=name, name=name, kind="peer", path=small_bundle, way=name, made=tmp_path)
    assert child.try_out(entry.model_dump_json()) is None
    assert any(tmp_path.iterdir()) == (PEERS[name].converter is not None)
    found = child.measure_cold(entry.model_dump_json())
    assert all(found[key] > 0 for key in ("load_ms", "first_step_ms", "engine_ms", "cpu_ms"))


@pytest.mark.usefixtures("only_pytorch")
def test_peers_on_the_same_weights(call: Command, small_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    code, out, err = call("bench", small_bundle, "--peers", "--steps", 12, "--json", target)
    assert code == 0, err
    report = Report.model_validate_json(target.read_text())
    labels = [m.subject.label for m in report.measurements]
    assert labels == ["onnxruntime", "PyTorch eager"]
    manifest = Bundle(small_bundle).manifest
    for measured, compared in zip(report.measurements, report.comparisons, strict=True):
        subject, method = measured.subject, measured.method
        assert (subject.bundle, subject.precision) == (manifest.name, "fp32")
        assert (method.interleaved, method.rounds, method.steps) == (True, 6, 12)
        assert subject.engine_version
        assert subject.bytes_per_step is not None
        assert subject.bytes_per_step > subject.files[0].bytes
        assert compared.baseline == labels[0]
        assert compared.paired is not None
        assert compared.paired.p10 <= compared.paired.p50 <= compared.paired.p90
    peers = [m.subject for m in report.measurements if m.subject.kind == "peer"]
    assert {(p.backend, p.engine) for p in peers} == {("pytorch", "torch")}
    assert report.machine.copy_gb_s is not None
    notes = " ".join(report.notes)
    for name, peer in PEERS.items():
        assert (f"{peer.title} is not installed; " in notes) == (name != "pytorch")
    assert "OpenVINO is not installed; pip install openvino" in " ".join(out.split())


def test_a_peer_with_other_answers_is_left_out(small_bundle: Path, tmp_path: Path) -> None:
    """Its limit is the bundle's: here one that nobody meets, beside ours in a bundle that holds."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["thresholds"]["fp32"]["max_error"] = 0.0

    wrong = edited(small_bundle, tmp_path / "wrong", change)
    entry = Entry(label="it", name="it", kind="peer", path=wrong, way="pytorch", made=tmp_path)
    reason = child.try_out(entry.model_dump_json())
    assert reason is not None
    assert "computes wrong numbers" in reason


def test_a_peer_whose_process_ends_badly_is_left_out(tmp_path: Path) -> None:
    entry = Entry(label="it", name="it", kind="peer", path=tmp_path / "x", way="pytorch")
    reason = child.try_out(entry.model_dump_json())
    assert reason is not None
    assert "trial in a process of its own failed" in reason


def test_peers_need_a_file_that_they_read(
    small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PEERS, "openvino", replace(PEERS["openvino"], needs="numpy"))

    def change(manifest: dict[str, Any]) -> None:
        for graph in manifest["graphs"]:
            graph["files"] = [f for f in graph["files"] if f["format"] == "torch"]

    bare = edited(small_bundle, tmp_path / "bare", change)
    entries, notes = engine_entries(Bundle(bare), [1], tmp_path, [])
    assert {e.way for e in entries} <= {"pytorch", "movinet-pytorch"}
    assert any("OpenVINO was left out: the bundle has no onnx; export it" in n for n in notes)


def test_nobody_takes_part_twice(small_bundle: Path, tmp_path: Path) -> None:
    ours = Entry(label="torch", name="torch", kind="bundle", path=small_bundle, way="torch")
    entries, _ = engine_entries(Bundle(small_bundle), [1], tmp_path, [ours])
    assert "pytorch" not in {entry.way for entry in entries}


def test_one_process_has_torch_with_several_thread_counts(small_bundle: Path) -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    frame = np.zeros((64, 64, 3), np.uint8)
    with Stream(small_bundle, "torch", threads=1) as one:
        one.step(frame)
        assert torch.get_num_threads() == 1
    with Stream(small_bundle, "torch", threads=2) as two:
        two.step(frame)
        assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_thread_counts_of_one_run(small_bundle: Path) -> None:
    report = host.bench(small_bundle, host.Options(["onnxruntime"], threads=[1, 2], steps=2))
    labels = [m.subject.label for m in report.measurements]
    assert labels == ["onnxruntime, 1 thread", "onnxruntime, 2 threads"]
    assert [m.method.threads for m in report.measurements] == [1, 2]


def test_cold_starts(small_bundle: Path) -> None:
    report = host.bench(small_bundle, host.Options(["onnxruntime"], steps=2, mode="cold"))
    (measured,) = report.measurements
    method = measured.method
    assert (method.mode, method.steps, method.rounds, method.warmup) == ("cold", 2, 2, 0)
    assert measured.cold is not None
    assert measured.cold.first_step_ms == measured.step_ms
    assert measured.latency_ms == measured.cold.start_ms
    assert measured.cold.start_ms.min > measured.cold.load_ms.min > 0


def test_sustained_on_the_host(call: Command, small_bundle: Path, tmp_path: Path) -> None:
    words = ("--engine", "onnxruntime", "--minutes", 0.01, "--json", tmp_path / "r.json")
    code, out, err = call("bench", small_bundle, *words)
    assert code == 0, err
    (measured,) = Report.model_validate_json((tmp_path / "r.json").read_text()).measurements
    assert measured.sustained is not None
    assert measured.sustained.seconds == pytest.approx(0.6, abs=0.3)
    assert (measured.method.mode, measured.method.interleaved) == ("back-to-back", False)
    assert "times as long" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--mode", "cold", "--minutes", 1), "not for --mode cold"),
        (("--mode", "sustained", "--steps", 9), "leave out --steps"),
        (("--mode", "paced", "--steps", 9, "--minutes", 1), "give one of them"),
        (("--peers", "--steps", 4), "give --steps 5"),
        (("--device", "ssh:x", "--peers"), "leave out --against and --peers"),
        (("--device", "ssh:x", "--mode", "cold", "--steps", 9), "a device starts 10 times"),
    ],
)
def test_modes_that_do_not_go_together(
    refused: Refused, small_bundle: Path, words: tuple[Any, ...], says: str
) -> None:
    assert says in refused("bench", small_bundle, *words)
