"""What can be said about the computer a benchmark runs on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from movinet_edge import __version__
from movinet_edge.benchmarks.record import Machine, Peaks

PROC = Path("/proc")
SYS = Path("/sys")
# In order of how well they name a processor; ARM boards lack the first.
CPU_KEYS = ("model name", "Model", "Hardware", "cpu model")
TOOLS = (
    *("numpy", "ai-edge-litert", "onnxruntime", "tflite-runtime", "torch"),
    *("openvino", "MNN", "executorch"),
)


def describe_machine(peaks: Peaks | None) -> Machine:
    """The machine as it is now; `peaks` are measured elsewhere, if they are."""
    return Machine(
        cpu=cpu_name(_read(PROC / "cpuinfo") or "", platform.processor() or platform.machine()),
        architecture=platform.machine(),
        cores=usable_cores(),
        governor=_read(SYS / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        temperature_c=temperature(SYS / "class/thermal"),
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        **(peaks or Peaks()).model_dump(),
    )


def usable_cores() -> int:
    """The processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name(cpuinfo: str, otherwise: str = "") -> str:
    """The processor's name from the text of /proc/cpuinfo, if it has one."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    names = (fields[key] for key in CPU_KEYS if fields.get(key))
    return next(names, otherwise or "unknown")


def temperature(zones: Path) -> float | None:
    """The hottest thermal zone in degrees Celsius."""
    readings = [_read(zone) for zone in zones.glob("thermal_zone*/temp")]
    degrees = [int(r) / 1000 for r in readings if r is not None and r.lstrip("-").isdigit()]
    return max(degrees, default=None)


def tool_versions() -> dict[str, str]:
    """Versions of what is installed and can influence a time."""
    versions = {"movinet-edge": __version__}
    for name in TOOLS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def memory_mb(field: str) -> float | None:
    """A field of /proc/self/status (VmRSS: resident now, VmHWM: at most) in 10^6 bytes."""
    for line in (_read(PROC / "self/status") or "").splitlines():
        key, _, value = line.partition(":")
        if key == field:
            return int(value.split()[0]) * 1024 / 1e6
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", errors="replace").strip() or None
    except OSError:
        return None
