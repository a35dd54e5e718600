"""How near a step comes to what the machine can do: the arithmetic limit and the bytes limit.

Derived from a record and nothing else, so it is in no record.
"""

from __future__ import annotations

from dataclasses import dataclass

from movinet_edge.benchmarks.record import Machine, Measurement


@dataclass(frozen=True)
class Roofline:
    """A step's median time against the least that its work takes, in ms.

    `arithmetic_ms`: its MACs at the peak of its threads (int8's for int8, else float32's).
    `bytes_ms`: what it reads and writes, at the bandwidth of a copy: within the core's own cache if
    all of it fits there, else in memory. None where machine or work are not known, and of cold
    starts.
    """

    step_ms: float
    arithmetic_ms: float | None
    bytes_ms: float | None

    @property
    def peak_percent(self) -> float | None:
        """Percent of the matrix peak."""
        return None if self.arithmetic_ms is None else 100 * self.arithmetic_ms / self.step_ms

    @property
    def over_arithmetic(self) -> float | None:
        """How many times the arithmetic limit."""
        return self.step_ms / self.arithmetic_ms if self.arithmetic_ms else None

    @property
    def over_bytes(self) -> float | None:
        """How many times the bytes limit."""
        return self.step_ms / self.bytes_ms if self.bytes_ms else None


def roofline(measured: Measurement, machine: Machine) -> Roofline:
    """The limits of a measurement on the machine that it was made on."""
    subject = measured.subject
    if measured.cold is not None:
        return Roofline(measured.step_ms.p50, None, None)
    peak = machine.int8_gmacs if subject.precision == "int8" else machine.sgemm_gmacs
    arithmetic = None
    if subject.macs_per_step is not None and peak is not None:
        threads = min(measured.method.threads, machine.cores)
        arithmetic = subject.macs_per_step / (peak * threads) / 1e6
    moved = subject.bytes_per_step
    cached = moved is not None and moved <= (machine.cache_bytes or 0)
    bandwidth = machine.cache_copy_gb_s if cached else machine.copy_gb_s
    limit = None if moved is None or bandwidth is None else moved / bandwidth / 1e6
    return Roofline(measured.step_ms.p50, arithmetic, limit)
