"""Devices over adb and ssh: real clients, a real adbd and a real sshd."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from movinet_edge.benchmarks.adb import Listed, adb_devices, adb_named, parse_devices
from movinet_edge.benchmarks.device import Device, DeviceLost, Facts
from movinet_edge.benchmarks.devices import remote_devices
from movinet_edge.benchmarks.ssh import SshDevice
from movinet_edge.errors import BadInput
from tests.commands import Command
from tests.device_lab import SERIALS, Lab, Room, board, first_on_path

SMALL_MB = 8


def check_traffic(device: Device, folder: Path) -> None:
    """What every device must do, whatever the line."""
    (folder / "sent").write_bytes(os.urandom(300_000))
    with device.workspace() as place:
        device.push(folder / "sent", f"{place}/a file")
        device.pull(f"{place}/a file", folder / "back")
        done = device.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
        assert (done.code, done.out, done.err) == (7, "out\n", "err\n")
        with pytest.raises(DeviceLost, match="did not give"):
            device.pull(f"{place}/nothing", folder / "nothing")
    assert (folder / "back").read_bytes() == (folder / "sent").read_bytes()
    assert device.run(["ls", place]).code
    facts = device.facts()
    assert facts.architecture == os.uname().machine
    assert facts.cores >= 1
    assert facts.cpu


def test_android(android: Room, tmp_path: Path) -> None:
    # adb may also find it itself, as an emulator.
    assert {one.serial for one in adb_devices()} >= set(SERIALS)
    (device,) = remote_devices(f"adb:{SERIALS[0]}")
    check_traffic(device, tmp_path)
    facts = device.facts()
    assert (facts.model, facts.api_level, facts.abi) == ("Phone of the lab", 34, "x86_64")
    assert {d.name for d in remote_devices("adb:all")} >= {f"adb:{serial}" for serial in SERIALS}


@pytest.mark.parametrize("android", [SMALL_MB], indirect=True)
def test_a_full_android(android: Room, tmp_path: Path) -> None:
    (device,) = adb_named(SERIALS[0])
    (tmp_path / "large").write_bytes(bytes(2 * SMALL_MB << 20))
    with (
        device.workspace() as place,
        pytest.raises(BadInput, match=r"has no room for large.* in /.*; free"),
    ):
        device.push(tmp_path / "large", f"{place}/large")
    assert device.shell(f"ls {device.home}").out == ""


@pytest.mark.parametrize("during", ["a command", "idle"])
def test_a_disconnected_android(android: Room, during: str) -> None:
    (device,) = adb_named(SERIALS[0])
    if during == "a command":
        threading.Timer(1.0, android.kill).start()
        began = time.monotonic()
        with pytest.raises(DeviceLost, match=f"adb:{SERIALS[0]} was disconnected"):
            device.shell("sleep 30")
        assert time.monotonic() - began < 20
    else:
        android.kill()
        time.sleep(0.5)
        with pytest.raises(DeviceLost, match="was disconnected"):
            device.shell("true")
        with pytest.raises(BadInput, match=r"is offline|adb knows no device"):
            adb_named(SERIALS[0])


@pytest.mark.parametrize(
    ("link", "begin"),
    [("exe", "cp /bin/sleep {0}/own; {0}/own"), ("cwd", "cd {0}; sleep")],
    ids=["ours", "somebody's that works there"],
)
def test_programs_are_ended_with_their_folder(linux: Room, link: str, begin: str) -> None:
    device = SshDevice("board")
    with device.workspace() as place:
        started = f"{begin.format(place)} 300 >/dev/null 2>&1 & echo $!"
        number = device.shell(started).out.strip()
        found = device.run(["readlink", f"/proc/{number}/{link}"]).out.strip()
        assert found == {"exe": f"{place}/own", "cwd": place}[link]
    assert device.run(["readlink", f"/proc/{number}/{link}"]).out == ""
    assert device.run(["ls", place]).code != 0


def test_interrupted_work_is_cleaned_up(android: Room) -> None:
    (device,) = adb_named(SERIALS[0])
    with pytest.raises(KeyboardInterrupt), device.workspace():
        raise KeyboardInterrupt
    assert device.shell(f"ls {device.home}").out == ""


def test_unknown_androids(android: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=rf"no device 'x': adb sees .*{SERIALS[0]} \(device\)"):
        adb_named("x")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadInput, match="adb is not installed"):
        adb_named("all")


def test_states_of_adb() -> None:
    text = (
        "* daemon started successfully\nList of devices attached\n"
        "0A1B device usb:1-1 product:p model:Pixel_8 device:shiba transport_id:1\n"
        "0A1C unauthorized usb:1-2 transport_id:2\n"
        "0A1D offline\n"
        "0A1E no permissions (missing udev rules? user is in the plugdev group); see [http]\n\n"
    )
    assert parse_devices(text) == [
        Listed("0A1B", "device", "Pixel_8"),
        Listed("0A1C", "unauthorized"),
        Listed("0A1D", "offline"),
        Listed("0A1E", "no permissions"),
    ]


def test_a_board(linux: Room, tmp_path: Path) -> None:
    (device,) = remote_devices("ssh:board")
    check_traffic(device, tmp_path)


def test_a_full_board(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large").write_bytes(bytes(2 * SMALL_MB << 20))
    with board(lab, tmp_path / "board", space=SMALL_MB):
        first_on_path(tmp_path / "board", monkeypatch)
        device = SshDevice("board", home="/data/local/tmp")
        with device.workspace() as place, pytest.raises(BadInput, match="has no room for large"):
            device.push(tmp_path / "large", f"{place}/large")
        assert device.shell(f"ls {device.home}").out == ""


def test_a_disconnected_board(linux: Room) -> None:
    device = SshDevice("board")
    assert device.shell("exit 3").code == 3
    linux.kill()
    with pytest.raises(BadInput, match="ssh:board cannot be reached: nothing listens there"):
        device.shell("true")


@pytest.mark.parametrize("name", ["phone", "adb:", "ssh:", "usb:1"])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(BadInput, match=r"unknown device .*; --device takes host, cuda, adb:"):
        remote_devices(name)
    with pytest.raises(BadInput, match="is no host"):
        remote_devices("ssh:-oProxyCommand=x")


def test_a_device_may_tell_nothing() -> None:
    facts = Facts.parse("abi=\nmachine=armv7l\ncpuinfo=processor : 0\ncpuinfo=processor : 1\n")
    assert (facts.architecture, facts.cores, facts.cpu) == ("armv7l", 2, "armv7l")
    assert (facts.abi, facts.temperature_c, facts.python) == (None, None, None)


def test_the_list(android: Room, call: Command) -> None:
    code, out, _ = call("devices")
    assert code == 0
    assert all(f"adb:{serial}" in out for serial in SERIALS)
    assert "Phone of the lab" in out.replace("\n", " ")
    assert "cuda" in out
