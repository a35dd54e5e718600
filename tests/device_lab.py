"""Real devices in miniature: Android's own adbd and OpenSSH's sshd, each answering its own client.

Both run in a network and a root of their own, since adbd lets everybody in: a tmpfs with the
system's programs bound into it, and for adbd Android's ``/data/local/tmp``, which can be full.
With a `Machine` they are ARM64 devices: its programs lie over the system's, and the kernel runs
them by its emulator, which is registered in a user namespace of the room and gone with it. Needs
root on Debian.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.arm64_machine import Machine
from tests.debian import Unavailable, downloaded, made_once, run, script

REPOSITORY = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("MOVINET_EDGE_LAB", REPOSITORY / ".lab"))
ADB_SUITE = "trixie"  # the first with adbd
ADB = (  # adb and adbd, with what they are linked against: the system's own may be older
    *("adb", "adbd", "android-libbase", "android-libboringssl", "android-libcutils"),
    *("android-liblog", "android-libziparchive", "libbrotli1", "libc6", "libcap2", "libcrypt1"),
    *("libgcc-s1", "liblz4-1", "libpcre2-8-0", "libprotobuf32t64", "libselinux1", "libssl3t64"),
    *("libstdc++6", "libsystemd0", "libudev1", "libusb-1.0-0", "libzstd1", "zlib1g"),
)
SSH_SUITE = "bookworm"
SSH = ("openssh-server", "libwrap0")
# All of 127.0.0.0/8 is this machine: one adbd can pass for several devices.
SERIALS = ("127.0.0.1:5555", "127.0.0.2:5555")
SPACE_MB = 256  # what the device's tmpfs holds

# Arguments: the tmpfs' size, the folder of shims, a file for the daemon's number, the folder of an
# ARM64 machine or nothing, the daemon. Bound is all that lies here, since the repository may lie
# anywhere; /tmp is the device's own, but for the folders in $KEPT. The shell stays, so that the
# network outlives a daemon that was killed.
ROOM = r"""
set -e
size=$1; shims=$2; number=$3; machine=$4; shift 4
root=${number%/*}/root; mkdir -p "$root"
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
mkdir -m 1777 "$root/tmp"
for part in /* $KEPT; do
  case "$part" in /etc | /run | /data | /device | /tmp) continue ;; esac
  if [ -L "$part" ]; then cp -P "$part" "$root$part"; continue; fi
  [ -d "$part" ] || continue
  mkdir -p "$root$part"
  if [ "$part" = /usr ] && [ -n "$machine" ]; then
    mount -t overlay -o "lowerdir=$machine/root/usr:/usr" overlay "$root/usr"
  else
    mount --rbind "$part" "$root$part"
  fi
done
if [ -n "$machine" ]; then
  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  printf '%s' "$PROGRAMS$machine/usr/bin/qemu-aarch64:F" >/proc/sys/fs/binfmt_misc/register
fi
cp -a /etc "$root/etc"
sed -i 's|^root:.*|root:x:0:0:root:/root:/bin/sh|' "$root/etc/passwd"
grep -q ^sshd: "$root/etc/passwd" || echo 'sshd:x:74:74::/run/sshd:/bin/false' >>"$root/etc/passwd"
mkdir -p "$root/data/local/tmp" "$root/run/sshd" "$root/device"
mount -t tmpfs -o "size=${size}m" tmpfs "$root/data/local/tmp"
cp -r "$shims/." "$root/device"
[ ! -d "$shims/sensors" ] || mount --bind "$shims/sensors" "$root/sys/class"
ip link set lo up
export PATH="/device:$PATH"
chroot "$root" "$@" &
echo $! >"$number"
wait || true
sleep infinity
"""
# By which the kernel knows a program for ARM64: the name of the entry, the ELF header and its mask.
PROGRAMS = (
    r":movinet-edge-arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)
# In a user namespace; runs the rest as its root, once the room's owner has said who that is.
AS_ROOT = 'until [ "$(id -u)" = 0 ]; do sleep 0.05; done; exec "$@"'
EVERYBODY = "0 0 4294967295"
PLACES = "/usr/sbin:/usr/bin:/sbin:/bin"  # of a device's programs
# What Android's shell has and this system's lacks.
GETPROP = """#!/bin/sh
case "$1" in
  ro.product.cpu.abi) echo {abi} ;;
  ro.build.version.sdk) echo 34 ;;
  ro.product.model) echo "Phone of the lab" ;;
esac
"""


@dataclass(frozen=True)
class Lab:
    """The programs, unpacked."""

    folder: Path

    @property
    def linked(self) -> list[str]:
        """What comes before a program of `ADB_SUITE`: its own loader and libraries."""
        root = self.folder / "adb"
        libraries = root / "usr/lib/x86_64-linux-gnu"
        loader = root / "usr/lib64/ld-linux-x86-64.so.2"
        return [str(loader), "--library-path", f"{libraries}:{libraries / 'android'}"]

    def platform_tool(self, name: str) -> str:
        return str(self.folder / "adb/usr/lib/android-sdk/platform-tools" / name)


@dataclass
class Room:
    """A daemon in a network and a root of its own; `process` keeps both open."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def number(self) -> Path:
        """The file with the daemon's process number."""
        return self.folder / "daemon.pid"

    @property
    def inside(self) -> list[str]:
        """What comes before a command that is to run in its network."""
        return ["nsenter", "-t", str(self.process.pid), "-n", "--"]

    def kill(self) -> None:
        """End the daemon as a pulled cable would: at once, in the middle of whatever it does."""
        os.kill(int(self.number.read_text()), signal.SIGKILL)

    def cut(self) -> None:
        """End also what serves the lines that are open, and what runs at their other end."""
        ended = [int(self.number.read_text())]
        for number in ended:
            for task in Path(f"/proc/{number}/task").glob("*/children"):
                ended += map(int, task.read_text().split())
        for number in ended:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def workspaces(names: Iterable[str]) -> list[str]:
    """Those of a device's folders that a benchmark left."""
    return sorted(name for name in names if re.fullmatch(r"movinet-edge-[0-9a-f]{12}", name))


def prepare(folder: Path = FOLDER) -> Lab:
    """The lab of today's packages; made whole or not at all where it is not there yet.

    Raises:
        Unavailable: not root on a Debian for x86-64, or its packages cannot be downloaded.
    """
    if os.geteuid() != 0 or os.uname().machine != "x86_64":
        raise Unavailable("root on x86-64 is needed")
    for tool in ("unshare", "nsenter", "ip", "chroot"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is needed")
    if subprocess.run(["unshare", "-n", "-m", "true"], capture_output=True, check=False).returncode:
        raise Unavailable("networks of our own are not allowed here")
    table = "\n".join((ADB_SUITE, *ADB, SSH_SUITE, *SSH))
    return Lab(made_once(folder, table, _unpacked))


def _unpacked(work: Path) -> Path:
    for part, packages, suite in (("adb", ADB, ADB_SUITE), ("ssh", SSH, SSH_SUITE)):
        (work / f"{part}-packages").mkdir()
        (work / "lab" / part).mkdir(parents=True)
        for file in downloaded(work / f"{part}-packages", packages, suite):
            run(["dpkg-deb", "-x", str(file), str(work / "lab" / part)])
    return work / "lab"


@contextmanager
def room(
    folder: Path, command: list[str], space: int = SPACE_MB, machine: Machine | None = None
) -> Iterator[Room]:
    """Run a daemon in a room of its own; it is killed at the end."""
    shims = folder / "shims"
    shims.mkdir(parents=True, exist_ok=True)
    place = "" if machine is None else str(machine.folder)
    words = [str(space), str(shims), str(folder / "daemon.pid"), place, *command]
    start = ["unshare", "-n", "-m", "sh", "-c", ROOM, "room", *words]
    used = (folder, FOLDER, REPOSITORY, Path(sys.prefix), Path(place))
    kept = {"/tmp/" + p.parts[2] for p in used if p.parts[:2] == ("/", "tmp")}
    environment = {"PATH": PLACES, "PROGRAMS": PROGRAMS, "KEPT": " ".join(sorted(kept))}
    if machine is not None:
        start = ["unshare", "-U", "sh", "-c", AS_ROOT, "room", *start]
        environment |= machine.environment
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            start, stdout=log, stderr=log, start_new_session=True, env=environment
        )
        try:
            if machine is not None:
                _admit_everybody(process)
            found = Room(process, folder)
            until(lambda: found.number.is_file() and bool(found.number.read_text()))
            yield found
        finally:
            if process.poll() is None:
                _kill_all_in(process)
                process.wait()


def _admit_everybody(process: subprocess.Popen[bytes]) -> None:
    """Give the user namespace that a process makes for itself every user there is."""
    kernel, ours = Path(f"/proc/{process.pid}"), os.readlink("/proc/self/ns/user")
    until(lambda: os.readlink(kernel / "ns/user") != ours)
    for kind in ("uid_map", "gid_map"):
        (kernel / kind).write_text(EVERYBODY)


def _kill_all_in(owner: subprocess.Popen[bytes]) -> None:
    """A room's process and whatever runs in its network: what daemons start is no child of ours."""
    wanted = os.readlink(f"/proc/{owner.pid}/ns/net")
    owner.kill()
    if wanted == os.readlink("/proc/self/ns/net"):  # it never came to have one of its own
        return
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            if os.readlink(process / "ns/net") == wanted:
                os.kill(int(process.name), signal.SIGKILL)


@contextmanager
def phone(
    lab: Lab,
    folder: Path,
    serials: Sequence[str] = SERIALS[:1],
    space: int = SPACE_MB,
    machine: Machine | None = None,
) -> Iterator[Room]:
    """An adbd, and in ``folder/bin`` the adb that sees it: put that first on the PATH.

    With two `serials`, two devices are seen.
    """
    shims, programs = folder / "shims", folder / "bin"
    for place in (shims, programs):
        place.mkdir(parents=True, exist_ok=True)
    abi = "x86_64" if machine is None else "arm64-v8a"
    script(shims / "getprop", GETPROP.format(abi=abi))
    adbd = [*lab.linked, lab.platform_tool("adbd")]
    with room(folder, adbd, space, machine) as found:
        adb = [*found.inside, *lab.linked, lab.platform_tool("adb")]
        environment = f"HOME={folder} TMPDIR={folder} ANDROID_ADB_SERVER_PORT=5137"
        words = " ".join(adb)
        script(programs / "adb", f'#!/bin/sh\nexec env {environment} {words} "$@"\n')
        # adb cannot start its server itself: it would run the loader again without its name.
        server = subprocess.Popen(
            [str(programs / "adb"), "nodaemon", "server"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for serial in serials:
                until(lambda: "connected to" in _said(programs / "adb", "connect", serial))  # noqa: B023
            yield found
        finally:
            server.kill()
            server.wait()


@contextmanager
def board(
    lab: Lab,
    folder: Path,
    machine: Machine | None = None,
    sensors: Path | None = None,
    space: int = SPACE_MB,
) -> Iterator[Room]:
    """An sshd, and in ``folder/bin`` the ssh and scp that reach it as ``board``.

    `sensors` is what it finds in ``/sys/class``; its ``/data/local/tmp`` has so little space, too.
    """
    (folder / "bin").mkdir(parents=True)
    for key in ("host", "user"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)])
    (folder / "known").write_text("")
    accepted = folder / "accepted"
    accepted.write_text((folder / "user.pub").read_text())
    accepted.chmod(0o600)
    settings = {
        "Port": "2222",
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": accepted,
        "PasswordAuthentication": "no",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "Subsystem": "sftp internal-sftp",
    }
    if machine is not None:  # a session begins with an environment of its own
        known = (f"{key}={value}" for key, value in machine.environment.items())
        settings["SetEnv"] = " ".join(known)
    config = folder / "sshd_config"
    config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    root = lab.folder / "ssh"
    libraries = f"LD_LIBRARY_PATH={root / 'usr/lib/x86_64-linux-gnu'}"
    daemon = ["env", libraries, str(root / "usr/sbin/sshd"), "-D", "-e", "-f", str(config)]
    if sensors is not None:
        (folder / "shims").mkdir()
        (folder / "shims/sensors").symlink_to(sensors)
    with room(folder, daemon, space, machine) as found:
        host = {
            "HostName": "127.0.0.1",
            "Port": "2222",
            "User": "root",
            "IdentityFile": folder / "user",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": folder / "known",
            "LogLevel": "ERROR",
        }
        lines = [f"  {key} {value}" for key, value in host.items()]
        (folder / "config").write_text("\n".join(["Host board", *lines, ""]))
        for name in ("ssh", "scp"):
            tool = " ".join([*found.inside, str(shutil.which(name)), "-F", str(folder / "config")])
            script(folder / "bin" / name, f'#!/bin/sh\nexec {tool} "$@"\n')
        until(lambda: "listening" in (folder / "daemon.log").read_text())
        yield found


@pytest.fixture(scope="session")
def lab() -> Lab:
    try:
        return prepare()
    except Unavailable as error:
        pytest.skip(f"no devices to test with: {error}")


def first_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands find a room's clients first."""
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def android(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Room]:
    """A phone with two serial numbers; parametrised with the size of its tmpfs in MB."""
    space = getattr(request, "param", SPACE_MB)
    with phone(lab, tmp_path / "phone", SERIALS, space=space) as found:
        first_on_path(tmp_path / "phone", monkeypatch)
        yield found


@pytest.fixture
def linux(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Room]:
    """A board that ssh calls ``board``; parametrised with the texts of its sensors."""
    sensors = None
    if texts := getattr(request, "param", None):
        sensors = tmp_path / "sensors"
        for name, text in texts.items():
            (sensors / name).parent.mkdir(parents=True, exist_ok=True)
            (sensors / name).write_text(f"{text}\n")
    with board(lab, tmp_path / "board", sensors=sensors) as found:
        first_on_path(tmp_path / "board", monkeypatch)
        yield found


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for it.

    Raises:
        Unavailable: it did not come true.
    """
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise Unavailable(f"the lab's daemon did not answer within {seconds:.0f} s")
        time.sleep(0.1)


def _said(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
