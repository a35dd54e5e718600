"""The native step runner of ``benchmarks/device``: build it, run it, read what it prints."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from movinet_edge.benchmarks.native_record import NativeRun
from movinet_edge.bundle import Record
from movinet_edge.errors import BadInput

SOURCES = Path(__file__).parent / "device"
PROGRAM = "movinet-edge-step"
FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra")
COMPILERS = ("c++", "g++", "clang++")
PATIENCE = 600.0  # seconds for a run beside the minutes it was asked for

EngineName = Literal["litert", "onnxruntime", "tflite"]
# Engines that the package index has: package, where its library lies, the index's name.
LIBRARIES = {
    "litert": ("ai_edge_litert", "libLiteRt.so", "ai-edge-litert"),
    "onnxruntime": ("onnxruntime", "capi/libonnxruntime.so*", "onnxruntime"),
}


class NativeOptions(Record):
    """The runner's options. `library` is a path on the device; None: where its system looks."""

    engine: EngineName
    library: str | None = None
    delegate: Literal["none", "xnnpack", "nnapi", "gpu"] | None = None
    threads: int = Field(1, ge=1)
    steps: int = Field(200, ge=1)
    rate: float | None = Field(None, gt=0)
    minutes: float | None = Field(None, ge=1e-3)

    def patience(self, frames_per_step: int = 1) -> float:
        """Seconds after which a run has gone wrong."""
        paced = self.steps * frames_per_step / self.rate if self.rate else 0.0
        return PATIENCE + max(60 * (self.minutes or 0), paced)

    def words(self) -> list[str]:
        """As the program takes them."""
        values = self.model_dump(exclude_none=True)
        return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def build(folder: Path, compiler: str | None = None, options: Sequence[str] = ()) -> Path:
    """Compile the runner into `folder`; returns the program.

    CMake does it where it is installed, else a compiler on the path alone.

    Args:
        compiler: a cross compiler, such as ``aarch64-linux-gnu-g++``.
        options: more words for CMake, such as a toolchain file (then CMake is needed).

    Raises:
        BadInput: nothing here compiles C++, or it fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = compiler or next(filter(shutil.which, COMPILERS), None)
    if chosen is None or not shutil.which(chosen):
        wanted = compiler or "a C++ compiler"
        raise BadInput(f"{wanted} is not on the path; install one (Debian: apt install g++)")
    target = folder / PROGRAM
    if shutil.which("cmake"):
        names = [f"-DCMAKE_CXX_COMPILER={chosen}"] if compiler else []
        _compile(["cmake", "-S", str(SOURCES), "-B", str(folder), *names, *options])
        _compile(["cmake", "--build", str(folder)])
    elif options:
        raise BadInput("cmake is not on the path, which a toolchain file needs; install it")
    else:
        sources = sorted(str(path) for path in SOURCES.glob("*.cpp"))
        _compile([chosen, *FLAGS, *sources, "-o", str(target), "-ldl"])
    return target


def _compile(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [*done.stderr.splitlines(), *done.stdout.splitlines()]
        first = next((line for line in lines if "error" in line.lower()), "no reason given")
        raise BadInput(f"{command[0]} cannot build the native runner: {first.strip()}")


def engine_library(engine: EngineName, site: Path | None = None) -> Path:
    """The engine's shared library in its installed Python package, or in another `site`.

    Raises:
        BadInput: it is not installed.
    """
    if engine not in LIBRARIES:
        raise BadInput(f"no package holds the library of {engine}; name its path")
    package, pattern, index_name = LIBRARIES[engine]
    if site is None:
        spec = importlib.util.find_spec(package)
        folder = next(iter((spec and spec.submodule_search_locations) or ()), "")
    else:
        folder = str(site / package)
    found = sorted(Path(folder).glob(pattern)) if folder else []
    if not found:
        raise BadInput(f"the library of {engine} is not installed; pip install {index_name}")
    return found[0]


def run(
    program: Path | str,
    folder: Path | str,
    options: NativeOptions,
    prefix: Sequence[str] = (),
) -> NativeRun:
    """Run a prepared folder.

    Args:
        program: the runner, where the device has it.
        folder: the prepared folder, where the device has it.
        prefix: what comes before the command: an emulator, ``ssh board``, ``adb shell``.

    Raises:
        BadInput: the runner refuses, crashes, or does not end; one sentence says why.
    """
    command = [*prefix, str(program), str(folder), *options.words()]
    limit = options.patience()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=limit, check=False
        )
    except OSError as error:
        raise BadInput(f"{command[0]} cannot be run ({error.strerror or error})") from error
    except subprocess.TimeoutExpired as error:
        raise BadInput(f"the native runner did not end within {limit:.0f} s") from error
    return read_run(done.returncode, done.stdout, done.stderr, options)


def read_run(code: int, out: str, err: str, options: NativeOptions) -> NativeRun:
    """What a run of the runner left behind, on whatever device.

    Raises:
        BadInput: the runner refused, crashed, or is of another version; one sentence says why.
    """
    if code:
        raise BadInput(_reason(code, err, options.engine))
    try:
        result = NativeRun.model_validate_json(out)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(
            "the native runner printed no record of this version "
            f"({'.'.join(map(str, first['loc'])) or 'json'}: {first['msg']}); build it again"
        ) from None
    version = result.engine_version or _installed_version(options)
    return result.model_copy(update={"engine_version": version})


def _reason(code: int, err: str, engine: str) -> str:
    """Why it failed: its own last word, or the signal that ended it."""
    own = [line for line in err.splitlines() if line.startswith("error: ")]
    if own:
        return own[-1].removeprefix("error: ")
    if code < 0 or code > 128:  # a shell tells of signals so
        number = -code if code < 0 else code - 128
        return f"{engine} ended the native runner (signal {number}); the model file may be damaged"
    said = (err.strip().splitlines() or ["no reason given"])[-1]
    return (
        f"the native runner does not run there (exit code {code}: {said}); build it for the device"
    )


def _installed_version(options: NativeOptions) -> str | None:
    """Of an engine that does not tell it itself, where its library is the installed package's."""
    try:
        if options.library == str(engine_library(options.engine)):
            return importlib.metadata.version(LIBRARIES[options.engine][2])
    except (BadInput, importlib.metadata.PackageNotFoundError):
        pass
    return None
