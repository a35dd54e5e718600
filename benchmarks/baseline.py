"""Is a model slower than it was? For a CI whose machines differ from day to day.

Times are counted in a reference kernel measured in the same run, numpy's matrix product on one
thread: a slower machine slows both. Of both the undisturbed end counts, the step's lower tenth and
the kernel's best. Devices have no such kernel: there the same kind of device is compared in ms.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from movinet_edge.benchmarks.record import Measurement, Report
from movinet_edge.errors import BadInput, CheckFailed


def read_report(path: Path) -> Report:
    """A report that ``bench --json`` wrote.

    Raises:
        BadInput: it is not there, or something else.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        reason = error.strerror
        raise BadInput(f"{path} cannot be read ({reason}); name a report of bench --json") from None
    except ValidationError:
        raise BadInput(f"{path} is no report of bench --json; write it again") from None


def slowdowns(report: Report, baseline: Report) -> dict[str, float]:
    """How many times slower than in the baseline everything is that both have, by label.

    Raises:
        BadInput: they have nothing in common, or ran on devices of different kinds.
    """
    ours, theirs = report.machine, baseline.machine
    kernels = [machine.sgemm_gmacs is not None for machine in (ours, theirs)]
    alike = (ours.model, ours.cpu, ours.architecture) == (
        *(theirs.model, theirs.cpu, theirs.architecture),
    )
    if not (all(kernels) or (not any(kernels) and alike)):
        raise BadInput(
            f"the baseline is of {baseline.machine.device} and this of {report.machine.device}; "
            "compare a device with itself"
        )
    before = {_what(m): m for m in baseline.measurements}
    found = {}
    for measured in report.measurements:
        old = before.get(_what(measured))
        if old is not None:
            ratio = _effort(measured, report) / _effort(old, baseline)
            found[measured.subject.label] = ratio
    if not found:
        raise BadInput(
            "the baseline measured nothing that was measured now; take the same backends, "
            "precision and threads"
        )
    return found


def check_slowdowns(found: dict[str, float], limit: float) -> None:
    """Raise `CheckFailed` if anything is slower than `limit` times the baseline."""
    slow = [f"{label} {ratio:.2f} times" for label, ratio in found.items() if not ratio <= limit]
    if slow:
        raise CheckFailed(f"slower than the baseline by more than {limit:g}: {', '.join(slow)}")


def _what(measured: Measurement) -> tuple[object, ...]:
    """What makes two measurements comparable; file names and labels may change."""
    subject, method = measured.subject, measured.method
    forms = tuple(file.form for file in subject.files)
    lasting = measured.sustained is not None
    how = method.threads, method.mode, lasting, measured.cold is not None
    return subject.kind, subject.bundle, subject.backend, subject.precision, forms, *how


def _effort(measured: Measurement, report: Report) -> float:
    """The step in 10^6 multiply-accumulates of the reference kernel, or in ms without one."""
    return measured.latency_ms.p10 * (report.machine.sgemm_gmacs or 1.0)
