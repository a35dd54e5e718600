"""Debian's packages, unpacked where tests want them; nothing is installed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
PATIENCE = 600  # seconds for one command


class Unavailable(Exception):
    """What a test needs cannot be had here; says why."""


def downloaded(work: Path, packages: Sequence[str], suite: str) -> list[Path]:
    """Packages (``name`` or ``name:arm64``) of a suite, from the mirror this system uses.

    Lists and caches lie in `work` and leave the system's own alone.

    Raises:
        Unavailable: this is no Debian, or its mirror does not give them.
    """
    try:
        native = run(["dpkg", "--print-architecture"]).strip()
        used = run(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split()
        mirror = next((uri for uri in used if uri.rstrip("/").endswith("/debian")), None)
        if mirror is None:
            raise Unavailable("apt-get has no mirror of Debian")
        for needed in ("state/lists/partial", "cache/archives/partial"):
            (work / needed).mkdir(parents=True)
        foreign = sorted({name.partition(":")[2] for name in packages} - {""})
        architectures = ",".join([native, *foreign])
        sources = work / "sources.list"
        options = f"signed-by={KEYS} arch={architectures} target=Packages"
        sources.write_text(f"deb [{options}] {mirror} {suite} main\n")
        settings = {
            "APT::Architectures": architectures,
            "APT::Sandbox::User": "root",  # its own user may not write here
            "APT::Update::Error-Mode": "any",
            "Dir::Cache": work / "cache",
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "-",
            "Dir::State": work / "state",
            "Dir::State::Status": os.devnull,  # nothing is installed
        }
        apt = ["apt-get", *(f"-o{key}={value}" for key, value in settings.items())]
        run([*apt, "update"])
        run([*apt, "download", *packages], work)
    except FileNotFoundError as error:
        raise Unavailable(f"Debian's {error.filename} is needed") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{error.cmd[0]} took more than {PATIENCE} s") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["no reason given"]
        raise Unavailable(f"{error.cmd[0]} failed: {lines[-1]}") from error
    return sorted(work.glob("*.deb"))


def made_once(folder: Path, table: str, make: Callable[[Path], Path]) -> Path:
    """A folder below `folder` for what `table` says, made whole or not at all if it is not there.

    `make` gets a temporary folder and returns what is to be kept of it.
    """
    target = folder.resolve() / hashlib.sha256(table.encode()).hexdigest()[:16]
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes ask at the same time
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix="new-") as name:
                make(Path(name)).rename(target)
    return target


def run(command: Sequence[str], folder: Path | None = None) -> str:
    """What a command prints; it must succeed."""
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout


def script(path: Path, text: str) -> None:
    """A program that a shell runs; whole at once, as others may run it meanwhile."""
    own = path.with_name(f"{path.name}.{os.getpid()}")
    own.write_text(text)
    own.chmod(0o755)
    own.replace(path)
