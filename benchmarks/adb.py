"""Android devices over adb, the platform's own debug bridge."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from movinet_edge.benchmarks.device import PATIENCE, Device, DeviceLost, Done, call
from movinet_edge.errors import BadInput

COPY_PATIENCE = 600.0
READY = "device"
# What adb says of a device that it lists but cannot use, and what helps.
STATES = {
    "unauthorized": "does not trust this computer yet; unlock it and allow USB debugging",
    "offline": "is offline; plug it in again, or run adb reconnect",
    "no permissions": "may not be opened by this user; add a udev rule for it",
    "recovery": "is in recovery; start Android on it",
    "sideload": "is in sideload; start Android on it",
    "bootloader": "is in its bootloader; start Android on it",
}
END = "movinet-edge: ended with "


@dataclass(frozen=True)
class Listed:
    """A line of ``adb devices -l``; `state` is `READY` or why it cannot be used."""

    serial: str
    state: str
    model: str | None = None


class AdbDevice(Device):
    """A device by its serial number. `tool` is the path of adb."""

    home = "/data/local/tmp"

    def __init__(self, serial: str, tool: str | None = None, home: str | None = None):
        super().__init__()
        self.serial, self.tool = serial, tool or adb_tool()
        self.name, self.home = f"adb:{serial}", home or self.home

    def shell(self, script: str, timeout: float = PATIENCE) -> Done:
        # -T: no terminal, so that lines end as they were written. When the line breaks, adb ends
        # with code 0 as if all was well: only the last line tells that the script was completed.
        whole = f"(\n{script}\n)\nprintf '\\n{END}%d' $?"
        done = self._adb("shell", "-T", whole, timeout=timeout)
        out, mark, code = done.out.rpartition(f"\n{END}")
        if not mark or not code.isdigit():
            reason = f" ({done.reason})" if done.err.strip() else ""
            raise DeviceLost(f"{self.name} was disconnected{reason}; connect it again")
        return Done(int(code), out, done.err)

    def send(self, local: Path, remote: str) -> Done:
        return self._adb("push", str(local), remote, timeout=COPY_PATIENCE)

    def fetch(self, remote: str, local: Path) -> Done:
        return self._adb("pull", remote, str(local), timeout=COPY_PATIENCE)

    def _adb(self, *words: str, timeout: float = PATIENCE) -> Done:
        return call([self.tool, "-s", self.serial, *words], timeout, self.name)


def adb_devices(tool: str | None = None) -> list[Listed]:
    """What adb sees, ready or not; its server is started if none runs.

    Raises:
        BadInput: there is no adb.
    """
    done = call([tool or adb_tool(), "devices", "-l"], PATIENCE, "adb")
    if done.code:
        raise BadInput(f"adb cannot list devices: {done.reason}")
    return parse_devices(done.out)


def parse_devices(text: str) -> list[Listed]:
    """From the output of ``adb devices -l``."""
    found = []
    for line in text.splitlines():
        serial, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if not rest or line.startswith(("List of", "*")):
            continue
        states = (READY, *STATES)
        state = next((s for s in states if rest.startswith(s)), rest.split()[0])
        model = re.search(r"\bmodel:(\S+)", rest)
        found.append(Listed(serial, state, model[1] if model else None))
    return found


def adb_named(serial: str) -> list[AdbDevice]:
    """The device of a serial number, or for ``all`` every one that is ready.

    Raises:
        BadInput: there is none, or it cannot be used; says what is there.
    """
    tool = adb_tool()
    listed = adb_devices(tool)
    if serial == "all":
        ready = [AdbDevice(one.serial, tool) for one in listed if one.state == READY]
        if not ready:
            raise BadInput(f"no Android device is ready: {_seen(listed)}")
        return ready
    chosen = next((one for one in listed if one.serial == serial), None)
    if chosen is None:
        raise BadInput(f"adb knows no device {serial!r}: {_seen(listed)}")
    if chosen.state != READY:
        raise BadInput(f"{serial} {STATES.get(chosen.state, f'is in the state {chosen.state}')}")
    return [AdbDevice(serial, tool)]


def _seen(listed: list[Listed]) -> str:
    if not listed:
        return "adb sees none; connect one and allow USB debugging on it"
    return "adb sees " + ", ".join(f"{one.serial} ({one.state})" for one in listed)


def adb_tool() -> str:
    """The path of adb.

    Raises:
        BadInput: it is not installed.
    """
    found = shutil.which("adb")
    if found is None:
        raise BadInput("adb is not installed; get Android's platform tools and put adb on the PATH")
    return found
