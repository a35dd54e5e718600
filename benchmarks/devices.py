"""What ``bench --device`` can name: the computer itself, Android over adb, anything over ssh."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from movinet_edge.benchmarks.adb import READY, STATES, AdbDevice, adb_devices, adb_named
from movinet_edge.benchmarks.device import Device, DeviceLost
from movinet_edge.benchmarks.machine import cpu_name, usable_cores
from movinet_edge.benchmarks.ssh import SshDevice
from movinet_edge.errors import BadInput

HOST, CUDA = "host", "cuda"
NAMES = f"{HOST}, {CUDA}, adb:SERIAL, adb:all or ssh:USER@HOST"


@dataclass(frozen=True)
class Seen:
    """A device; `state` is ``ready``, or why it cannot be used and what helps."""

    name: str
    what: str
    state: str


def seen() -> Iterator[Seen]:
    """All devices that can be found without being told of them."""
    cpuinfo = Path("/proc/cpuinfo")
    name = cpu_name(cpuinfo.read_text() if cpuinfo.exists() else "", platform.machine())
    yield Seen(HOST, f"{name}, {usable_cores()} cores", "ready")
    yield _cuda()
    if shutil.which("adb") is None:
        return
    for listed in adb_devices():
        if listed.state != READY:
            state = STATES.get(listed.state, listed.state)
            yield Seen(f"adb:{listed.serial}", listed.model or "", state)
            continue
        try:
            facts = AdbDevice(listed.serial).facts()
        except DeviceLost as error:
            yield Seen(f"adb:{listed.serial}", listed.model or "", str(error))
            continue
        api = f", API {facts.api_level}" if facts.api_level else ""
        what = f"{facts.model or listed.model or 'Android'}, {facts.abi or facts.architecture}{api}"
        yield Seen(f"adb:{listed.serial}", f"{what}, {facts.cpu}, {facts.cores} cores", "ready")


def _cuda() -> Seen:
    if importlib.util.find_spec("torch") is None:
        return Seen(CUDA, "", "PyTorch is not installed")
    import torch

    if not torch.cuda.is_available():
        return Seen(CUDA, "", "PyTorch finds no GPU")
    return Seen(CUDA, torch.cuda.get_device_name(), "ready")


def remote_devices(name: str) -> list[Device]:
    """The devices that ``adb:...`` or ``ssh:...`` names.

    Raises:
        BadInput: unknown or unusable; says what is there.
    """
    kind, _, rest = name.partition(":")
    if kind == "adb" and rest:
        return list(adb_named(rest))
    if kind == "ssh" and rest:
        return [SshDevice(rest)]
    raise BadInput(f"unknown device {name!r}; --device takes {NAMES}")
