"""Temperature and energy: read by the real runners on a board whose sensors say what we want."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from movinet_edge.benchmarks.energy import PowerMeter
from movinet_edge.benchmarks.record import Measurement, Report
from tests.commands import Command
from tests.device_lab import Room

RAPL = "powercap/intel-rapl:0"
BATTERY = "power_supply/bat"
THERMAL = "thermal/thermal_zone0"
COUNTED = {
    f"{THERMAL}/type": "cpu",
    f"{THERMAL}/temp": "41500",
    f"{RAPL}/energy_uj": "900000",
    f"{RAPL}/max_energy_range_uj": "1000000",
    f"{RAPL}:0/energy_uj": "5",  # a part of the package
}
WATTS = 2.0
DISCHARGED = {
    f"{BATTERY}/type": "Battery",
    f"{BATTERY}/status": "Discharging",
    f"{BATTERY}/current_now": "-500000",
    f"{BATTERY}/voltage_now": "4000000",
}
Measure = Callable[..., Measurement]


@pytest.fixture
def measure(
    linux: Room,
    call: Command,
    small_bundle: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Measure:
    """A sustained run of the native or the Python runner on the board."""

    def run(runner: str, seconds: float) -> Measurement:
        own = {"native": ("--program", "program"), "python": ("--python", sys.executable)}[runner]
        if runner == "native":
            own = own[0], request.getfixturevalue("program")
        words = ("--runner", runner, *own, "--engine", "onnxruntime", "--minutes", seconds / 60)
        where = ("--device", "ssh:board", "--json", tmp_path / "r.json")
        code, _, err = call("bench", small_bundle, *where, *words)
        assert code == 0, err
        (found,) = Report.model_validate_json((tmp_path / "r.json").read_text()).measurements
        return found

    return run


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[None]:
    """The processor's counter goes on, half of its span at a time, and so turns over."""
    ended, counter = threading.Event(), tmp_path / "sensors" / RAPL / "energy_uj"

    def count() -> None:
        value = 900_000
        while not ended.wait(0.4):
            value = (value + 500_000) % 1_000_000
            counter.write_text(f"{value}\n")

    thread = threading.Thread(target=count)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.parametrize("linux", [COUNTED], indirect=True)
@pytest.mark.parametrize("runner", ["native", "python"])
def test_a_processor_that_counts(measure: Measure, counting: None, runner: str) -> None:
    found = measure(runner, 3.0)
    assert found.energy is not None
    assert found.energy.source == "rapl"
    assert found.energy.joules_per_step > 0
    assert found.sustained is not None
    assert [celsius for _, celsius in found.sustained.temperatures] == [41.5]


@pytest.mark.parametrize("linux", [DISCHARGED], indirect=True)
def test_a_battery(measure: Measure) -> None:
    found = measure("native", 10.5)
    assert found.energy is not None
    assert found.energy.source == "battery"
    joules = found.energy.joules_per_step * found.method.steps
    assert joules == pytest.approx(WATTS * 10.5, rel=0.05)


@pytest.mark.parametrize("linux", [DISCHARGED | {f"{BATTERY}/status": "Charging"}], indirect=True)
def test_what_is_charged_tells_nothing(measure: Measure) -> None:
    assert measure("native", 10.5).energy is None


def test_the_counters_of_packages_add_up(tmp_path: Path) -> None:
    """Also where they turn over; how often they are read does not matter."""
    for package in (0, 1):
        folder = tmp_path / f"class/powercap/intel-rapl:{package}"
        folder.mkdir(parents=True)
        (folder / "energy_uj").write_text("9000000\n")
        (folder / "max_energy_range_uj").write_text("10000000\n")
    now = 0.0
    meter = PowerMeter(tmp_path, clock=lambda: now)
    (tmp_path / "class/powercap/intel-rapl:0/energy_uj").write_text("1000000\n")
    now = 0.5
    meter.look()
    assert meter.joules == 0
    now = 2.0
    meter.look()
    assert meter.joules == pytest.approx(2)
    (tmp_path / "class/powercap/intel-rapl:1/energy_uj").write_text("9500000\n")
    found = meter.per_step(10)
    assert found is not None
    assert found.joules_per_step == pytest.approx(0.25)


@pytest.mark.parametrize("seconds", [5.0, 20.0])
def test_a_gauge_needs_some_time(tmp_path: Path, seconds: float) -> None:
    for name, text in DISCHARGED.items():
        (tmp_path / "class" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "class" / name).write_text(text)
    now = 0.0
    meter = PowerMeter(tmp_path, clock=lambda: now)
    now = seconds
    found = meter.per_step(4)
    assert (found and found.joules_per_step) == (WATTS * seconds / 4 if seconds > 10 else None)


def test_nothing_tells(tmp_path: Path) -> None:
    assert PowerMeter(tmp_path).per_step(1) is None
