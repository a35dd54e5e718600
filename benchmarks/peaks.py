"""What one thread of this machine can do at most: matrix products, and copies.

Each is the best of many repetitions, for load of others only ever slows down. The roofline of a
step is drawn from them (Williams et al., "Roofline", CACM 52(4), 2009).
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from movinet_edge.benchmarks.machine import SYS

SIZE = 768  # side of the matrices
SECONDS = 1.0  # for each of the kernels
# Where the system does not tell of its caches.
L2_BYTES, LAST_BYTES = 1 << 20, 32 << 20
# A copy in memory takes buffers of the last cache's size, but no more than this share of memory.
MEMORY_SHARE = 16
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def measured() -> dict[str, float | int | None]:
    """The fields of `record.Peaks`; for a process of its own, whose libraries have one thread."""
    caches = cache_sizes(SYS / "devices/system/cpu/cpu0/cache")
    own, last = caches.get(2, L2_BYTES), max(caches.values(), default=LAST_BYTES)
    return {
        "sgemm_gmacs": sgemm_gmacs(),
        "int8_gmacs": int8_gmacs(),
        "copy_gb_s": copy_gb_s(min(last, memory_bytes() // MEMORY_SHARE)),
        # Both buffers together leave half of the cache free.
        "cache_copy_gb_s": copy_gb_s(own // 4),
        "cache_bytes": own,
    }


def sgemm_gmacs() -> float:
    """10^9 float32 MACs per second of numpy's matrix product."""
    a, b = np.random.default_rng(0).random((2, SIZE, SIZE), np.float32)
    out = np.empty_like(a)
    return SIZE**3 / best_seconds(lambda: np.matmul(a, b, out=out)) / 1e9


def int8_gmacs() -> float | None:
    """10^9 MACs per second of ONNX Runtime's MatMulInteger, unsigned by constant signed bytes.

    Those are the kernels that its dense and pointwise layers of int8 files run on; None where it or
    the package that writes the graph is not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
        return None
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from movinet_edge.runtime.ort import session_options

    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.integers(-127, 128, (SIZE, SIZE), np.int8), "b")
    shape = [SIZE, SIZE]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "peak",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, shape)],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
    )
    a, out = rng.integers(0, 256, (SIZE, SIZE), np.uint8), np.empty((SIZE, SIZE), np.int32)
    binding = session.io_binding()
    binding.bind_input("a", "cpu", 0, a.dtype, a.shape, a.ctypes.data)
    binding.bind_output("y", "cpu", 0, out.dtype, out.shape, out.ctypes.data)
    return SIZE**3 / best_seconds(lambda: session.run_with_iobinding(binding)) / 1e9


def copy_gb_s(size: int) -> float:
    """10^9 bytes per second, read and written, of a copy of `size` bytes to another place."""
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    return 2 * size / best_seconds(lambda: np.copyto(target, source)) / 1e9


def best_seconds(call: Callable[[], object]) -> float:
    """The shortest of the calls that fit in `SECONDS`; there are two at least."""
    call()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        best = min(best, now - start)
        if now >= end:
            return best


def cache_sizes(folder: Path) -> dict[int, int]:
    """Bytes of a core's caches for data, by level, as Linux tells them."""
    found = {}
    for cache in sorted(folder.glob("index*")):
        try:
            kind, level, size = (
                (cache / name).read_text("ascii").strip() for name in ("type", "level", "size")
            )
            if kind != "Instruction":
                found[int(level)] = int(size.rstrip("KMG")) * UNITS.get(size[-1:], 1)
        except (OSError, ValueError):
            continue
    return found


def memory_bytes() -> int:
    """The machine's memory; what a small board has where the system does not tell."""
    try:
        text = Path("/proc/meminfo").read_text("ascii")
        return int(text.partition("MemTotal:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return 1 << 30
