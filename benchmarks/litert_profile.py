"""What each operator of a .tflite file costs on LiteRT, XNNPACK's own included.

LiteRT's Python interface has no profile; its C library has one, and asks XNNPACK for its operators.
The structures are those of LiteRT 2.3 (headers under ``litert/c``). Times are whole microseconds.
"""

from __future__ import annotations

import ctypes
from contextlib import ExitStack
from ctypes import byref, c_char, c_char_p, c_int, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path

import ai_edge_litert
import numpy as np

from movinet_edge.bundle import ModelFile
from movinet_edge.errors import BadInput
from movinet_edge.runtime.quiet import quiet

CPU = 1
OPTIONS = {"runtime_options_string": "enable_profiling = true\n"}
THREADS = "cpu_options_string"
# Of an operator, of one inside a delegate, and of one that a delegate ran in its place.
OPERATORS = (2, 4, 8)
TYPE_BYTES = 72  # of LiteRtRankedTensorType
WARMUP = 5

Run = list[tuple[str, float]]  # operators in order, with their ms


class Event(ctypes.Structure):
    """``ProfiledEventData``: `kind` is a bit, `memory` what the process had before and after."""

    _fields_ = (
        ("tag", c_char_p),
        ("kind", c_int),
        ("start", c_uint64),
        ("elapsed", c_uint64),
        ("memory", c_int64 * 6),
        ("metadata", c_uint64 * 2),
        ("source", c_int),
    )


def profile(path: Path, file: ModelFile, runs: int) -> list[Run]:
    """The operators of `runs` runs on one thread, on noise.

    Raises:
        BadInput: this version of LiteRT has no profile, or none of this file.
    """
    with quiet(), ExitStack() as stack:
        model = _Model(stack, path, file)
        return [model.run() for _ in range(runs + WARMUP)][WARMUP:]


class _Model:
    """A compiled file with its buffers; what it holds is released by `stack`."""

    def __init__(self, stack: ExitStack, path: Path, file: ModelFile):
        self._library = ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))
        self._stack = stack
        self._environment = self._made("Environment", 0, None)
        model = self._made("ModelFromFile", self._environment, str(path).encode(), kind="Model")
        options = self._made("Options")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, CPU)
        for name, text in {**OPTIONS, THREADS: "num_threads = 1\n"}.items():
            self._call("LiteRtAddOpaqueOptions", options, self._opaque(name, text))
        self._compiled = self._made("CompiledModel", self._environment, model, options)
        self._profiler = self._given("LiteRtCompiledModelGetProfiler", self._compiled)
        signature = self._given("LiteRtGetModelSignature", model, c_size_t(0))
        rng = np.random.default_rng(0)
        sizes = {spec.name: spec.nbytes for spec in (*file.inputs, *file.outputs)}
        self._buffers = [self._side(signature, side, sizes, rng) for side in ("Input", "Output")]

    def run(self) -> Run:
        """One run, profiled."""
        self._call("LiteRtResetProfiler", self._profiler)
        self._call("LiteRtStartProfiler", self._profiler)
        sides = [x for side in self._buffers for x in (c_size_t(len(side)), side)]
        self._call("LiteRtRunCompiledModel", self._compiled, c_size_t(0), *sides)
        self._call("LiteRtStopProfiler", self._profiler)
        count = c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, byref(count))
        events = (Event * count.value)()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, events)
        found = [
            (event.tag.decode(), event.elapsed / 1e3) for event in events if event.kind in OPERATORS
        ]
        if not found:
            raise BadInput("LiteRT tells of no operators of this file; profile another engine")
        return found

    def _side(
        self, signature: c_void_p, side: str, sizes: dict[str, int], rng: np.random.Generator
    ) -> ctypes.Array[c_void_p]:
        count = c_size_t()
        self._call(f"LiteRtGetNumSignature{side}s", signature, byref(count))
        handles = []
        for index in map(c_size_t, range(count.value)):
            tensor = self._given(f"LiteRtGetSignature{side}TensorByIndex", signature, index)
            kind = (c_char * TYPE_BYTES)()
            self._call("LiteRtGetRankedTensorType", tensor, byref(kind))
            needs = f"LiteRtGetCompiledModel{side}BufferRequirements"
            requirements = self._given(needs, self._compiled, c_size_t(0), index)
            words = "ManagedTensorBufferFromRequirements", self._environment, byref(kind)
            handle = self._made(*words, requirements, kind="TensorBuffer")
            name = c_char_p()
            self._call(f"LiteRtGetSignature{side}Name", signature, index, byref(name))
            size = sizes[(name.value or b"").decode()]
            # Bytes of floats below 1, and never of numbers so small that the processor is slow.
            noise = rng.random(-(-size // 4), np.float32).view(np.uint8)[:size]
            place = self._given("LiteRtGetTensorBufferHostMemory", handle)
            ctypes.memmove(place, noise.ctypes.data, size)
            handles.append(handle.value)
        return (c_void_p * len(handles))(*handles)

    def _opaque(self, name: str, text: str) -> c_void_p:
        libc = ctypes.CDLL(None)
        libc.strdup.restype, libc.strdup.argtypes = c_void_p, [c_char_p]
        free = ctypes.cast(libc.free, c_void_p)
        data = c_void_p(libc.strdup(text.encode()))
        return self._given("LiteRtCreateOpaqueOptions", name.encode(), data, free)

    def _made(self, what: str, *arguments: object, kind: str | None = None) -> c_void_p:
        """A new object, which is destroyed at the end."""
        handle = self._given(f"LiteRtCreate{what}", *arguments)
        self._stack.callback(getattr(self._library, f"LiteRtDestroy{kind or what}"), handle)
        return handle

    def _given(self, function: str, *arguments: object) -> c_void_p:
        handle = c_void_p()
        self._call(function, *arguments, byref(handle))
        return handle

    def _call(self, function: str, *arguments: object) -> None:
        try:
            status = getattr(self._library, function)(*arguments)
        except AttributeError:
            raise BadInput(
                f"this version of LiteRT has no {function}; profile with ai-edge-litert 2.3"
            ) from None
        if status:
            raise BadInput(f"LiteRT cannot profile this file: {function} gives {status}")
