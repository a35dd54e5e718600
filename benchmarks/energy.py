"""What a run costs in joules, where Linux tells: the processor's counters, or the battery's gauge.

RAPL counts the energy of a processor's packages in microjoules (Documentation/power/powercap).
A battery tells its current and voltage (Documentation/power/power_supply_class); that is the whole
device, and means something only while nothing charges it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from movinet_edge.benchmarks.record import Energy

LOOK_SECONDS = 1.0
# Gauges answer with means of about a second.
BATTERY_SECONDS = 10.0


@dataclass
class PowerMeter:
    """Adds up the energy from now on; `look` often, for counters turn over and currents change."""

    system: Path
    clock: Callable[[], float] = time.perf_counter
    joules: float = 0.0
    _seconds: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._packages = {
            zone: _number(zone / "max_energy_range_uj") or 0.0
            for zone in sorted((self.system / "class/powercap").glob("intel-rapl:[0-9]*"))
            if zone.name.count(":") == 1 and _number(zone / "energy_uj") is not None
        }
        self._counts = {zone: _number(zone / "energy_uj") for zone in self._packages}
        supplies = sorted((self.system / "class/power_supply").glob("*"))
        self._battery = next((s for s in supplies if _text(s / "type") == "Battery"), None)
        self._watts = None if self._packages else self._battery_watts()
        self._last = self.clock()

    def look(self, at_once: bool = False) -> None:
        """Read the sensors if it is time to."""
        now = self.clock()
        if now - self._last < LOOK_SECONDS and not at_once:
            return
        if self._packages:
            self.joules += self._counted()
        elif self._watts is not None:
            watts = self._battery_watts()
            if watts is not None:
                self.joules += (self._watts + watts) / 2 * (now - self._last)
            self._watts = watts
        self._seconds += now - self._last
        self._last = now

    def per_step(self, steps: int) -> Energy | None:
        """The energy of each of `steps`; None where nothing tells."""
        self.look(at_once=True)
        if self._packages:
            return Energy(source="rapl", joules_per_step=self.joules / steps)
        if self._watts is None or self._seconds < BATTERY_SECONDS:
            return None
        return Energy(source="battery", joules_per_step=self.joules / steps)

    def _counted(self) -> float:
        """Joules since the counters were read last."""
        joules = 0.0
        for zone, span in self._packages.items():
            before, after = self._counts[zone], _number(zone / "energy_uj")
            if before is not None and after is not None:
                joules += (after - before + (span if after < before else 0)) / 1e6
            self._counts[zone] = after
        return joules

    def _battery_watts(self) -> float | None:
        """What the battery gives; None while it is charged."""
        if self._battery is None or _text(self._battery / "status") != "Discharging":
            return None
        current, voltage = (
            _number(self._battery / name) for name in ("current_now", "voltage_now")
        )
        # Some gauges count what flows out as negative.
        return None if current is None or voltage is None else abs(current) * voltage / 1e12


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:  # root alone may read it, or it is not there
        return None


def _number(path: Path) -> float | None:
    text = _text(path) or ""
    return float(text) if text.lstrip("-").isdigit() else None
