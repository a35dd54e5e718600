"""Benchmarks: arithmetic, timing and records. Nothing here asserts a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from movinet_edge.benchmarks import host, machine, output, peaks, stats
from movinet_edge.benchmarks.contestant import EngineClock, Entry, clips, fit_frames
from movinet_edge.benchmarks.cuda_figures import cuda_reports, cuda_table
from movinet_edge.benchmarks.endurance import Pace, go_on
from movinet_edge.benchmarks.line_up import with_unique_labels
from movinet_edge.benchmarks.modes import Mode, Schedule
from movinet_edge.benchmarks.peer_figures import agreement, differences, peers_table
from movinet_edge.benchmarks.record import (
    Alone,
    GraphFile,
    Machine,
    Measurement,
    Method,
    Peaks,
    Report,
    Subject,
)
from movinet_edge.benchmarks.roofline import roofline
from movinet_edge.benchmarks.timing import LEAD, WARMUP, Timed, interleaved, prepare
from movinet_edge.cli.bench import ModeName
from movinet_edge.errors import BadInput, CheckFailed

FILE = GraphFile(graph="step", form="fresh", file="step.tflite", sha256="0", bytes=1, partitions=1)
SUBJECT = Subject(
    label="x",
    name="x",
    kind="bundle",
    backend="x",
    engine="e",
    engine_version="1",
    files=[FILE],
)


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


def test_ratios_are_of_the_medians_of_rounds() -> None:
    ours, theirs = [1.0, 9.0, 1.0, 2.0, 2.0, 8.0], [1.0, 1.0, 5.0, 1.0, 7.0, 1.0]
    found = stats.compare("ours", ours, "theirs", theirs, paired=True, per_round=3)
    assert found.paired is not None
    assert found.paired.p50 == pytest.approx(1.5)
    assert (found.paired.p10, found.paired.p90) == (pytest.approx(1.1), pytest.approx(1.9))


def test_cold_starts_add_up() -> None:
    found = stats.cold_starts([100.0, 90.0], [8.0, 4.0])
    assert (found.processes, found.start_ms.min, found.start_ms.p99) == (
        2,
        94,
        pytest.approx(107.86),
    )


def test_clips_wrap_and_frames_are_fitted() -> None:
    frames = np.arange(5, dtype=np.uint8)
    assert [[int(f) for f in clip] for clip in clips(frames, 2)] == [[0, 1], [2, 3]]
    assert [int(f) for f in clips(frames, 7)[0]] == [0, 1, 2, 3, 4, 0, 1]
    video = np.full((2, 8, 6, 3), 200, np.uint8)
    assert fit_frames(video, (8, 6)) is video
    fitted = fit_frames(video, (4, 5))
    assert fitted.shape == (2, 4, 5, 3)
    assert (fitted == 200).all()


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
        return SUBJECT


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


def test_turns_of_several_steps_begin_untimed() -> None:
    log: list[str] = []
    line_up = [Timed(Counting(n, log), clips(FRAMES, 1)) for n in "ab"]
    interleaved(line_up, 12, 0, lambda _: None, per_round=4)
    turns = [log[i : i + LEAD + 4] for i in range(0, len(log), LEAD + 4)]
    assert len(turns) == 6
    assert all(len(set(turn)) == 1 for turn in turns)
    assert [len(timed.step) for timed in line_up] == [12, 12]


@pytest.mark.parametrize(
    ("schedule", "turns"),
    [
        (Schedule(), (200, 20)),
        (Schedule(steps=3), (3, 1)),
        (Schedule(steps=3, period=4), (4, 4)),
        (Schedule(steps=200, period=8), (216, 24)),
        (Schedule(steps=5, rounds=5, period=16), (80, 16)),
    ],
)
def test_rounds_are_whole_periods_of_the_plan(schedule: Schedule, turns: tuple[int, int]) -> None:
    assert schedule.turns() == turns


def test_paced_steps_are_counted() -> None:
    timed = Timed(Counting("a", []), clips(FRAMES, 1))
    assert go_on(timed, Pace(4, 500.0)).sustained is None
    assert len(timed.step) == 4
    assert timed.late is not None


def test_clips_are_compared_per_frame_and_cold_starts_whole() -> None:
    contestant = Counting("a", [])
    contestant.frames_per_step = 4
    assert Timed(contestant, [], step=[8.0, 4.0]).compared == [2.0, 1.0]
    assert Timed(contestant, [], step=[8.0, 4.0], load=[100.0, 90.0]).compared == [108.0, 94.0]


# Records


def example_report() -> Report:
    some = stats.distribution([1.0, 2.0])
    measurement = Measurement(
        subject=SUBJECT,
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


def with_work(precision: str | None = None, threads: int = 1, **work: float) -> Measurement:
    """A measurement of steps of 1.5 ms that do some work."""
    (measured,) = example_report().measurements
    subject = measured.subject.model_copy(update={"precision": precision, **work})
    method = measured.method.model_copy(update={"threads": threads})
    return measured.model_copy(update={"subject": subject, "method": method})


def test_the_roofline() -> None:
    known = {"sgemm_gmacs": 100.0, "int8_gmacs": 400.0, "copy_gb_s": 10.0}
    known |= {"cache_copy_gb_s": 50.0, "cache_bytes": 10**6, "cores": 2}
    there = example_report().machine.model_copy(update=known)
    found = roofline(with_work(macs_per_step=75e6, bytes_per_step=15e6), there)
    assert (found.arithmetic_ms, found.bytes_ms) == (pytest.approx(0.75), pytest.approx(1.5))
    assert found.peak_percent == pytest.approx(50)
    assert (found.over_arithmetic, found.over_bytes) == (pytest.approx(2), pytest.approx(1))
    cached = roofline(with_work(bytes_per_step=1e6), there)
    assert (cached.peak_percent, cached.over_arithmetic) == (None, None)
    assert cached.bytes_ms == pytest.approx(0.02)
    assert roofline(with_work("int8", macs_per_step=75e6), there).over_arithmetic == 8
    # Two threads have two peaks, and four on two cores no more.
    for threads in (2, 4):
        wide = roofline(with_work(threads=threads, macs_per_step=75e6), there)
        assert wide.over_arithmetic == pytest.approx(4)
    nothing = roofline(with_work(macs_per_step=75e6, bytes_per_step=15e6), bare(there))
    assert (nothing.peak_percent, nothing.over_arithmetic, nothing.over_bytes) == (None,) * 3


def bare(there: Machine) -> Machine:
    """The machine, with nothing measured."""
    return there.model_copy(update=dict.fromkeys(Peaks.model_fields))


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


def test_the_table_of_peers_has_a_row_each() -> None:
    report = example_report()
    (ours,) = report.measurements
    subject = ours.subject.model_copy(update={"kind": "peer", "label": "other", "name": "other"})
    both = (ours, ours.model_copy(update={"subject": subject}))
    rows = peers_table({"a0": report.model_copy(update={"measurements": both})}).splitlines()
    assert rows[2] == "| x (1) | 1 | 1.50 · 1.00 (1.00–1.00) · – |"
    assert rows[3] == "| official export, other (1) | 1 | 1.50 · – · – |"
    assert "ratios to x on as many threads" in rows[-1]


def test_ratios_that_were_measured_twice_are_compared() -> None:
    report = example_report()
    (same,) = report.comparisons
    other = same.model_copy(update={"label": "y", "ratio_of_medians": 0.5, "paired": None})
    first = report.model_copy(update={"comparisons": (same, other)})
    later = other.model_copy(update={"ratio_of_medians": 0.6})
    again = report.model_copy(update={"comparisons": (same, later)})
    assert differences(first, again) == {"x": 0, "y": pytest.approx(0.2)}
    text = agreement({"a0": first}, {"a0": again})
    assert "1 of 2 ratios within 10 %, the largest difference 20% (a0: y)" in text
    assert agreement({"a0": first}, {}) == ""


def test_the_table_of_the_gpu_has_a_row_each() -> None:
    found = cuda_reports()
    rows = [line for line in cuda_table(found).splitlines() if line.startswith("| a")]
    assert len(rows) == sum(len(report.measurements) for report in found.values())
    assert any("graphs bf16" in row for row in rows)


def test_modes_of_the_command_are_those_of_the_schedule() -> None:
    assert tuple(mode.value for mode in ModeName) == get_args(Mode)


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


def test_caches_as_linux_tells_them(tmp_path: Path) -> None:
    assert peaks.cache_sizes(tmp_path) == {}
    rows = [("Data", 1, "48K"), ("Instruction", 1, "64K"), ("Unified", 2, "2048K")]
    for number, row in enumerate([*rows, ("Unified", 3, "32M"), ("Unified", 4, "broken")]):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for name, value in zip(("type", "level", "size"), row, strict=True):
            (folder / name).write_text(f"{value}\n")
    assert peaks.cache_sizes(tmp_path) == {1: 48 << 10, 2: 2 << 20, 3: 32 << 20}


def test_peaks_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(peaks, "SECONDS", 0.01)
    monkeypatch.setattr(peaks, "SIZE", 64)
    monkeypatch.setattr(peaks, "MEMORY_SHARE", 1 << 14)
    found = Peaks.model_validate(peaks.measured())
    assert all(value is not None and value > 0 for value in found.model_dump().values())


def test_temperature_of_the_hottest_zone(tmp_path: Path) -> None:
    assert machine.temperature(tmp_path) is None
    for zone, reading in enumerate(["41000", "52500", "broken"]):
        (tmp_path / f"thermal_zone{zone}").mkdir()
        (tmp_path / f"thermal_zone{zone}/temp").write_text(reading)
    assert machine.temperature(tmp_path) == 52.5
