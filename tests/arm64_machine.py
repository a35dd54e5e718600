"""An ARM64 Linux user-space that runs here: Debian's qemu and Python, PyPI's wheels.

Prepared once, without root, in ``.arm64`` (or ``$MOVINET_EDGE_ARM64``): emulator, libraries, and
site-packages as ``pip install 'movinet-edge[litert,onnxruntime]'`` fills them on a board.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.debian import Unavailable, downloaded, made_once, run

REPOSITORY = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("MOVINET_EDGE_ARM64", REPOSITORY / ".arm64"))
CONSTRAINTS = REPOSITORY / "constraints.txt"

# The first Debian with qemu 10. Version 7 shows programs the host's /proc/cpuinfo, on which ONNX
# Runtime crashes, and its `max` core computes wrong numbers.
SUITE, GLIBC_MINOR, PYTHON = "trixie", 41, "3.13"
EMULATOR, QEMU = "qemu-user", "usr/bin/qemu-aarch64"
PACKAGES = (  # of ARM64: Python, a shell and its programs, what they and the wheels are linked with
    *(f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib"),
    *("coreutils", "dash", "python3-minimal", "sed"),
    *("libacl1", "libattr1", "libbz2-1.0", "libc6", "libcap2", "libexpat1", "libffi8", "libgcc-s1"),
    *("libgmp10", "liblzma5", "libpcre2-8-0", "libselinux1", "libssl3t64", "libstdc++6"),
    *("libsystemd0", "libzstd1", "zlib1g"),
)
CORE = "cortex-a76"  # of devices; with no core named, the emulator has one that nobody builds
EXTRAS = ("litert", "onnxruntime")
PATIENCE = 600  # seconds for one command


@pytest.fixture(scope="session")
def machine() -> Machine:
    try:
        return prepare()
    except Unavailable as error:
        pytest.skip(f"no ARM64 machine: {error}")


@dataclass(frozen=True)
class Machine:
    """The prepared user-space, in a folder of its own."""

    folder: Path

    @property
    def site(self) -> Path:
        """Where the wheels are installed."""
        return self.folder / "site"

    @property
    def environment(self) -> dict[str, str]:
        """What programs of its need where the kernel calls the emulator."""
        return {"QEMU_CPU": CORE, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(self.site)}

    def emulator(self, core: str) -> list[str]:
        """What comes before the command of a program for ARM64."""
        return [str(self.folder / QEMU), "-cpu", core, "-L", str(self.folder / "root")]

    def python(self, core: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run Python on an emulated core, with this checkout and without PyTorch."""
        environment = {
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "PATH": os.defpath,
            "PYTHONPATH": f"{REPOSITORY}:{self.site}",
        }
        interpreter = self.folder / f"root/usr/bin/python{PYTHON}"
        return subprocess.run(
            [*self.emulator(core), str(interpreter), *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )


def prepare(folder: Path = FOLDER) -> Machine:
    """The machine of today's packages; made whole or not at all where it is not there yet.

    Raises:
        Unavailable: not on Debian, or its packages cannot be downloaded.
        CalledProcessError: the wheels cannot be installed.
    """
    wheels = _wheels()
    table = "\n".join((SUITE, EMULATOR, *PACKAGES, *wheels, CONSTRAINTS.read_text("utf-8")))

    def make(work: Path) -> Path:
        _unpack(downloaded(work, [EMULATOR, *_guests()], SUITE), work / "machine")
        _install(wheels, work / "machine" / "site")
        return work / "machine"

    return Machine(made_once(folder, table, make))


def _guests() -> list[str]:
    return [f"{name}:arm64" for name in PACKAGES]


def _wheels() -> list[str]:
    """What pyproject.toml asks for where nothing is trained or exported."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extras = (project["optional-dependencies"][name] for name in EXTRAS)
    return sum(extras, list(project["dependencies"]))


def _unpack(packages: Sequence[Path], machine: Path) -> None:
    """The emulator for ARM64 alone, of many, and the guest's root."""
    root = machine / "root"
    root.mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")  # where programs look for their loader
    for package in packages:
        if package.name.startswith(f"{EMULATOR}_"):
            unpack = ["dpkg-deb", "--fsys-tarfile", str(package)]
            with subprocess.Popen(unpack, stdout=subprocess.PIPE) as archive:
                pick = ["tar", "-x", "-C", str(machine), f"./{QEMU}"]
                subprocess.run(pick, stdin=archive.stdout, check=True)
        else:
            run(["dpkg-deb", "-x", str(package), str(root)])


def _install(wheels: Sequence[str], site: Path) -> None:
    """Wheels for the guest, by our own pip: emulated, it would take minutes."""
    tags = ["manylinux2014", *(f"manylinux_2_{minor}" for minor in range(17, GLIBC_MINOR + 1))]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    guest = [f"--python-version={PYTHON}", "--implementation=cp", "--only-binary=:all:"]
    platforms = [f"--platform={tag}_aarch64" for tag in tags]
    where = ["--no-compile", f"--target={site}", f"--constraint={CONSTRAINTS}"]
    run([*pip, *guest, *platforms, *where, *wheels])
