"""What must be measured in a process of its own; run with ``python -m``, answers in JSON.

Both ends are here: `measure_alone` and `measure_sgemm` start the process, `main` is inside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from movinet_edge.child import run_module
from movinet_edge.errors import CheckFailed

MODULE = "movinet_edge.benchmarks.child"
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
SGEMM_SIZE = 768
SGEMM_SECONDS = 1.0
LIMIT_SECONDS = 900


def measure_alone(entry_json: str, steps: int) -> dict[str, Any]:
    """The fields of `Alone` for a contestant that loads and makes `steps` steps.

    Raises:
        CheckFailed: the process ended badly.
    """
    return _ask({}, "alone", entry_json, str(steps))


def measure_sgemm() -> float:
    """10^9 float32 multiply-accumulates per second of numpy's matrix product on one thread."""
    return float(_ask(dict.fromkeys(ONE_THREAD, "1"), "sgemm")["gmacs"])


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


def sgemm() -> dict[str, float]:
    """The best of many products of two square matrices."""
    import numpy as np

    size = SGEMM_SIZE
    a, b = np.random.default_rng(0).random((2, size, size), np.float32)
    out = np.empty_like(a)
    best, end = float("inf"), time.perf_counter() + SGEMM_SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        best = min(best, time.perf_counter() - start)
    return {"gmacs": size**3 / best / 1e9}


def alone(entry_json: str, steps: int) -> dict[str, float | None]:
    """Load, time the first step, make the rest, and see how large the process became."""
    import numpy as np

    from movinet_edge.benchmarks.contestant import Entry, clips
    from movinet_edge.benchmarks.line_up import start
    from movinet_edge.benchmarks.machine import memory_mb

    entry = Entry.model_validate_json(entry_json)
    base = memory_mb("VmRSS")
    begin = time.perf_counter()
    contestant = start(entry)
    loaded = time.perf_counter()
    # Few frames: they should not show beside the model.
    frames = np.random.default_rng(0).integers(0, 256, (2, *contestant.frame_size, 3), np.uint8)
    fed = clips(frames, contestant.frames_per_step)
    first = time.perf_counter()
    contestant.step(fed[0])
    stepped = time.perf_counter()
    for number in range(1, steps):
        contestant.step(fed[number % len(fed)])
    return {
        "load_ms": (loaded - begin) * 1e3,
        "first_step_ms": (stepped - first) * 1e3,
        "base_memory_mb": base,
        "peak_memory_mb": memory_mb("VmHWM"),
    }


def main(arguments: list[str]) -> None:
    """Answer one question on the last line of stdout."""
    answer = sgemm() if arguments[0] == "sgemm" else alone(arguments[1], int(arguments[2]))
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
