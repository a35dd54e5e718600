"""Benchmarks: arithmetic, timing and records. Nothing here asserts a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.benchmarks import host, machine, output, stats
from movinet_edge.benchmarks.contestant import EngineClock, Entry, clips, fit_frames
from movinet_edge.benchmarks.line_up import with_unique_labels
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
