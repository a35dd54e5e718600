"""Debian's C++ compiler for ARM64: the system's, or its packages unpacked where tests want them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.arm64_machine import FOLDER
from tests.debian import Unavailable, downloaded, made_once, run, script

COMPILER = "aarch64-linux-gnu-g++"
# The oldest suite whose compiler builds the runner: newer systems run its programs, too.
SUITE, VERSION = "bookworm", 12
PACKAGES = (
    *(f"{tool}-{VERSION}-aarch64-linux-gnu" for tool in ("cpp", "gcc", "g++")),
    *("binutils-aarch64-linux-gnu", "libbinutils", "libgmp10", "libisl23", "libjansson4"),
    *("libmpc3", "libmpfr6", "libzstd1"),
    *("libc6-arm64-cross", "libc6-dev-arm64-cross", "linux-libc-dev-arm64-cross"),
    *("libgcc-s1-arm64-cross", f"libgcc-{VERSION}-dev-arm64-cross"),
    *("libstdc++6-arm64-cross", f"libstdc++-{VERSION}-dev-arm64-cross"),
)


def compiler() -> Path:
    """The compiler, its name as Debian has it.

    Raises:
        Unavailable: not on a Debian for x86-64, or its packages cannot be downloaded.
    """
    found = shutil.which(COMPILER)
    if found is not None:
        return Path(found)
    if os.uname().machine != "x86_64":
        raise Unavailable(f"{COMPILER} is not installed")
    root = made_once(FOLDER, "\n".join((SUITE, *PACKAGES)), _unpacked)
    # Written anew: the folder may have been moved.
    libraries = f"LD_LIBRARY_PATH={root / 'usr/lib/x86_64-linux-gnu'}"
    program = root / f"usr/bin/{COMPILER}-{VERSION}"
    made = root / "path" / COMPILER
    made.parent.mkdir(exist_ok=True)
    script(made, f'#!/bin/sh\nexec env {libraries} {program} --sysroot={root} "$@"\n')
    return made


def _unpacked(work: Path) -> Path:
    (work / "root").mkdir()
    for package in downloaded(work, PACKAGES, SUITE):
        run(["dpkg-deb", "-x", str(package), str(work / "root")])
    return work / "root"


@pytest.fixture(scope="session")
def cross_compiler() -> Path:
    """The compiler's program; put its folder on the PATH where it is to be found by name."""
    try:
        return compiler()
    except Unavailable as error:
        pytest.skip(f"no compiler for ARM64: {error}")
