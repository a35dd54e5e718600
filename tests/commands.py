"""The command line in tests: run in this process, or in one of its own."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from movinet_edge.cli import console
from movinet_edge.cli.main import main

COMMAND = [sys.executable, "-c", "from movinet_edge.cli.main import main; main()"]
# What a command says on stderr while it works, before it fails.
PROGRESS = tuple(
    f"{name}: "
    for name in (
        *("import", "export", "ensemble", "verify", "bench"),
        *("evaluate", "sensitivity", "note"),
    )
)

Command = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """``call("inspect", path)``, in this process, which spares its imports.

    Gives exit code, stdout and stderr.
    """

    def forget_consoles() -> None:
        for stream in (console.out, console.err):
            stream.cache_clear()

    def run(*arguments: str | Path | int) -> tuple[int, str, str]:
        forget_consoles()
        monkeypatch.setattr(sys, "argv", ["movinet-edge", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said, code = capfd.readouterr(), left.value.code
        assert isinstance(code, int)
        return code, said.out, said.err

    yield run
    forget_consoles()


def movinet_edge(
    *arguments: str | Path, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    words = [*COMMAND, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout)


def the_error(code: object, text: str) -> str:
    """The one sentence of a command that was refused."""
    said = [x for x in text.splitlines() if x and not x.startswith(PROGRESS)]
    assert code == 2, text
    assert len(said) == 1, text
    assert said[0].startswith("error: ")
    return said[0].removeprefix("error: ")


def refusal(result: tuple[int, str, str]) -> str:
    """The one sentence of a command that was refused before it printed anything."""
    code, out, err = result
    assert out == ""
    return the_error(code, err)


@pytest.fixture
def refused(call: Command, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run a command in this process, which must refuse: its one sentence."""

    def run(*arguments: str | Path) -> str:
        code, _, err = call(*arguments)
        gc.collect()  # the failed command's frames, and with them the bundle that it opened
        return the_error(code, err + capfd.readouterr().err)

    return run


def refused_apart(*arguments: str | Path) -> str:
    """Run a command in a process of its own, which must refuse."""
    result = movinet_edge(*arguments)
    return the_error(result.returncode, result.stderr)


@pytest.fixture
def no_temporary_files(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Commands get a temporary directory of their own, which they must leave empty."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert [p.name for p in folder.iterdir()] == []
