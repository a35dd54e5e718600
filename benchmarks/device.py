"""A device at the other end of a line: what every way to reach one offers.

Paths on it are POSIX paths as text; its shell is a POSIX shell.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from movinet_edge.benchmarks.machine import cpu_name
from movinet_edge.benchmarks.record import Machine
from movinet_edge.errors import BadInput, CheckFailed

# Long enough for a cold phone to answer; what runs long says so itself.
PATIENCE = 60.0
NO_SPACE = "No space left on device"

# Prints what can be known as `key=value`, and never fails: most devices lack some of it.
PROBE = r"""
property() { getprop "$1" 2>/dev/null; }
echo "abi=$(property ro.product.cpu.abi)"
echo "api=$(property ro.build.version.sdk)"
echo "model=$(property ro.product.model || tr -d '\0' 2>/dev/null </proc/device-tree/model)"
[ -e /system/bin/linker ] || [ -e /system/bin/linker64 ] && echo "android=yes"
echo "machine=$(uname -m)"
echo "system=$(uname -sr)"
echo "cores=$(nproc 2>/dev/null)"
echo "governor=$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null)"
for zone in /sys/class/thermal/thermal_zone*/temp; do
  echo "temperature=$(cat "$zone" 2>/dev/null)"
done
echo "python=$(python3 -c 'import platform; print(platform.python_version())' 2>/dev/null)"
sed 's/^/cpuinfo=/' /proc/cpuinfo 2>/dev/null
true
"""

# Of a line that broke, the program at its other end knows nothing. It is ours by where it lies, or
# (Python is nobody's) by where it works.
CLEAN = r"""
for process in /proc/[0-9]*; do
  for place in exe cwd; do
    case "$(readlink "$process/$place" 2>/dev/null)" in
      {folder} | {folder}/*) kill -9 "${{process#/proc/}}" ;;
    esac
  done
done
rm -rf {folder}
"""

# What a processor is called by `uname -m`, by Android's ABI.
ARCHITECTURES = {
    "arm64-v8a": "aarch64",
    "armeabi-v7a": "armv7l",
    "x86_64": "x86_64",
    "x86": "i686",
}


class DeviceLost(CheckFailed):
    """The line broke while something was under way."""


class DeviceSilent(DeviceLost):
    """It did not answer in time; another try would take as long."""


@dataclass(frozen=True)
class Done:
    """What a command on a device left behind."""

    code: int
    out: str
    err: str

    @property
    def reason(self) -> str:
        """The last thing it said."""
        said = (self.err.strip() or self.out.strip()).splitlines()
        return said[-1] if said else f"exit code {self.code}"


def call(command: Sequence[str], timeout: float, name: str) -> Done:
    """Run a program here that talks to a device.

    Raises:
        DeviceLost: it did not end in `timeout` seconds.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise DeviceSilent(f"{name} did not answer within {timeout:.0f} s") from None
    return Done(done.returncode, done.stdout, done.stderr)


class Device(ABC):
    """A device that answers; `name` is what ``--device`` calls it."""

    name: str
    # Where it lets us write and run programs.
    home: str

    def __init__(self) -> None:
        self.left: list[str] = []  # our folders there that are in use, or could not be removed

    @abstractmethod
    def shell(self, script: str, timeout: float = PATIENCE) -> Done:
        """Run a script.

        Raises:
            DeviceLost: the device is gone, or did not answer in `timeout` seconds.
        """

    @abstractmethod
    def send(self, local: Path, remote: str) -> Done:
        """Copy a file there, as it is."""

    @abstractmethod
    def fetch(self, remote: str, local: Path) -> Done:
        """Copy a file from there."""

    def run(self, command: Sequence[str], timeout: float = PATIENCE) -> Done:
        """Run a program with its arguments; see `shell`."""
        return self.shell(shlex.join(command), timeout)

    def push(self, local: Path, remote: str) -> None:
        """Copy a file there and compare its hash.

        Raises:
            BadInput: there is no room for it.
            DeviceLost: the line broke, or what arrived is something else.
        """
        done = self.send(local, remote)
        if done.code:
            folder = remote.rpartition("/")[0] or "/"
            if NO_SPACE in done.err + done.out or self._free(folder) < local.stat().st_size:
                raise BadInput(
                    f"{self.name} has no room for {local.name} "
                    f"({local.stat().st_size / 1e6:.1f} MB) in {folder}; free some there"
                )
            raise DeviceLost(f"{self.name} did not take {local.name}: {done.reason}")
        there = self.shell(f"sha256sum {shlex.quote(remote)}")
        if there.out.split()[:1] != [hashlib.sha256(local.read_bytes()).hexdigest()]:
            raise DeviceLost(f"{local.name} did not arrive whole on {self.name}; try again")

    def _free(self, folder: str) -> float:
        """Bytes that there is room for in it; scp does not say that there was none."""
        fields = self.run(["df", "-Pk", folder]).out.rpartition("%")[0].split()
        return 1024 * int(fields[-2]) if len(fields) > 1 and fields[-2].isdigit() else math.inf

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from there.

        Raises:
            DeviceLost: the line broke, or there is no such file.
        """
        done = self.fetch(remote, local)
        if done.code:
            raise DeviceLost(f"{self.name} did not give {remote}: {done.reason}")

    @contextmanager
    def workspace(self) -> Iterator[str]:
        """A folder of our own on the device, gone afterwards, also after Ctrl-C.

        So are the programs that still run in it, and what an earlier one left when the line broke.

        Raises:
            DeviceLost, BadInput: it cannot be made.
        """
        self._clean()
        folder = f"{self.home}/movinet-edge-{secrets.token_hex(6)}"
        made = self.run(["mkdir", "-p", folder])
        if made.code:
            if NO_SPACE in made.err:
                raise BadInput(f"{self.name} has no room in {self.home}; free some there")
            raise BadInput(f"{self.name} does not let us write to {self.home}: {made.reason}")
        self.left.append(folder)
        try:
            yield folder
        finally:
            with suppress(DeviceLost, BadInput):  # what broke the line is being reported already
                self._clean()

    def _clean(self) -> None:
        while self.left:
            self.shell(CLEAN.format(folder=shlex.quote(self.left[-1])))
            self.left.pop()

    def facts(self) -> Facts:
        """What it says about itself."""
        return Facts.parse(self.shell(PROBE).out)


@dataclass(frozen=True)
class Facts:
    """A device's own words; None is what it does not tell.

    `architecture` as in ``uname -m``; temperatures in degrees Celsius, the hottest zone's.
    """

    architecture: str
    system: str
    cpu: str
    cores: int
    abi: str | None = None
    api_level: int | None = None
    model: str | None = None
    governor: str | None = None
    temperature_c: float | None = None
    python: str | None = None
    android: bool = False  # its programs are linked otherwise than Linux's

    @classmethod
    def parse(cls, text: str) -> Facts:
        """From what `PROBE` printed."""
        values: dict[str, list[str]] = {}
        for line in text.splitlines():
            key, _, value = line.partition("=")
            if value.strip():
                values.setdefault(key, []).append(value.strip())
        first = {key: found[0] for key, found in values.items()}
        cpuinfo = "\n".join(values.get("cpuinfo", ()))
        abi = first.get("abi")
        heat = [int(t) / 1000 for t in values.get("temperature", ()) if t.lstrip("-").isdigit()]
        counted = sum(line.startswith("processor") for line in values.get("cpuinfo", ()))
        return cls(
            architecture=ARCHITECTURES.get(abi or "", first.get("machine", "unknown")),
            system=first.get("system", "unknown"),
            cpu=cpu_name(cpuinfo, first.get("machine", "unknown")),
            cores=int(first.get("cores", counted or 1)),
            abi=abi,
            api_level=int(first["api"]) if first.get("api", "").isdigit() else None,
            model=first.get("model"),
            governor=first.get("governor"),
            temperature_c=max(heat, default=None),
            python=first.get("python"),
            android="android" in first,
        )

    def machine(self, device: str, sgemm_gmacs: float | None = None) -> Machine:
        """As a benchmark's record has it."""
        return Machine(
            device=device,
            model=self.model,
            api_level=self.api_level,
            cpu=self.cpu,
            architecture=self.architecture,
            cores=self.cores,
            governor=self.governor,
            temperature_c=self.temperature_c,
            os=self.system,
            python=self.python,
            sgemm_gmacs=sgemm_gmacs,
        )
