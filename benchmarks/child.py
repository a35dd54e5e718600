"""What must be measured in a process of its own; run with ``python -m``, answers in JSON.

Both ends are here: `measure_alone` and its like start the process, `main` is inside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from movinet_edge.child import run_module
from movinet_edge.errors import CheckFailed

if TYPE_CHECKING:
    from movinet_edge.benchmarks.record import Peaks
    from movinet_edge.benchmarks.timing import Timed

MODULE = "movinet_edge.benchmarks.child"
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
LIMIT_SECONDS = 900


def measure_alone(entry_json: str, steps: int) -> dict[str, Any]:
    """The fields of `Alone` for a contestant that loads and makes `steps` steps.

    Raises:
        CheckFailed: the process ended badly.
    """
    return _ask({}, "alone", entry_json, str(steps))


def measure_cold(entry_json: str) -> dict[str, float]:
    """``load_ms`` of a contestant, ``first_step_ms``, and that step's ``engine_ms``, ``cpu_ms``.

    Raises:
        CheckFailed: the process ended badly.
    """
    return _ask({}, "cold", entry_json)


def try_out(entry_json: str) -> str | None:
    """Why another engine cannot run a bundle, crashes included; None if it can.

    Where it needs a file of its own, that is written.
    """
    try:
        reason: str | None = _ask({}, "trial", entry_json)["reason"]
    except CheckFailed as error:
        return str(error)
    return reason


def measure_peaks() -> Peaks:
    """What one thread of this machine can do at most."""
    from movinet_edge.benchmarks.record import Peaks

    return Peaks.model_validate(_ask(dict.fromkeys(ONE_THREAD, "1"), "peaks"))


def _ask(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    try:
        done = run_module(MODULE, *arguments, environment=environment, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        raise CheckFailed(
            f"measuring {arguments[0]} took longer than {LIMIT_SECONDS} s; take fewer --steps"
        ) from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise CheckFailed(f"measuring {arguments[0]} in a process of its own failed: {reason}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def peaks() -> dict[str, float | None]:
    """The fields of `Peaks`."""
    from movinet_edge.benchmarks.peaks import measured

    return measured()


def trial(entry_json: str) -> dict[str, str | None]:
    """Convert what the engine cannot read, load it, and compare its answers."""
    from movinet_edge.benchmarks.bundled import BundleContestant, check_parity
    from movinet_edge.benchmarks.contestant import Entry
    from movinet_edge.benchmarks.facts import first_line
    from movinet_edge.benchmarks.peer_engines import converted
    from movinet_edge.bundle import Bundle

    entry = Entry.model_validate_json(entry_json)
    bundle = Bundle(entry.path)
    try:
        converted(bundle, entry.way, entry.precision, entry.made)
        check_parity(BundleContestant(entry, bundle))
    except Exception as error:  # engines and converters share no exception
        return {"reason": first_line(error)}
    return {"reason": None}


def cold(entry_json: str) -> dict[str, float]:
    """Load and step once."""
    timed, load, _ = _loaded(entry_json)
    first = timed.one(0)
    return {
        "load_ms": load,
        "first_step_ms": first,
        "engine_ms": timed.engine[0],
        "cpu_ms": timed.cpu[0],
    }


def alone(entry_json: str, steps: int) -> dict[str, float | None]:
    """Load, time the first step, make the rest, and see how large the process became."""
    from movinet_edge.benchmarks.machine import memory_mb

    timed, load, base = _loaded(entry_json)
    first = timed.one(0)
    for number in range(1, steps):
        timed.one(number)
    return {
        "load_ms": load,
        "first_step_ms": first,
        "base_memory_mb": base,
        "peak_memory_mb": memory_mb("VmHWM"),
    }


def _loaded(entry_json: str) -> tuple[Timed, float, float | None]:
    """A contestant with frames to step on, how long it took to load, and the memory before."""
    import numpy as np

    from movinet_edge.benchmarks.contestant import Entry, clips
    from movinet_edge.benchmarks.line_up import start
    from movinet_edge.benchmarks.machine import memory_mb
    from movinet_edge.benchmarks.timing import Timed

    entry = Entry.model_validate_json(entry_json)
    base = memory_mb("VmRSS")
    begin = time.perf_counter()
    contestant = start(entry)
    load = (time.perf_counter() - begin) * 1e3
    # Few frames: they should not show beside the model.
    frames = np.random.default_rng(0).integers(0, 256, (2, *contestant.frame_size, 3), np.uint8)
    return Timed(contestant, clips(frames, contestant.frames_per_step)), load, base


def main(arguments: list[str]) -> None:
    """Answer one question on the last line of stdout."""
    match arguments:
        case ["trial", entry]:
            answer: dict[str, Any] = trial(entry)
        case ["cold", entry]:
            answer = cold(entry)
        case ["alone", entry, steps]:
            answer = alone(entry, int(steps))
        case _:
            answer = peaks()
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
