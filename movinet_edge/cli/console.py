"""Consoles: answers go to stdout, progress to stderr."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import cache

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@cache
def out() -> Console:
    """Where answers and tables go. Labels and paths may hold brackets: no markup is read."""
    return Console(markup=False, emoji=False)


@cache
def err() -> Console:
    """Where progress goes: its own descriptor, for stderr is hidden while converters run."""
    return Console(file=os.fdopen(os.dup(2), "w"), stderr=True, markup=False, emoji=False)


def note(text: str) -> None:
    """Say something beside the answer."""
    err().print(f"note: {text}", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """A spinner with elapsed time (plain lines where there is no terminal).

    Yields a function to say what is being done now.
    """
    console = err()
    if not console.is_terminal:
        yield lambda text: console.print(f"{title}: {text}", highlight=False, soft_wrap=True)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title)
        yield lambda text: bar.update(task, description=f"{title}: {text}")


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[..., None]]:
    """A bar for countable work (a line for every tenth of it where there is no terminal).

    Yields ``update(done, total, note="")``.
    """
    console = err()
    if not console.is_terminal:
        said = 0

        def line(done: int, total: int, note: str = "") -> None:
            nonlocal said
            tenth = 10 * done // max(total, 1)
            if tenth > said:
                said = tenth
                text = f"{title}: {done} of {total}" + (f", {note}" if note else "")
                console.print(text, highlight=False, soft_wrap=True)

        yield line
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(title, total=None)

        def update(done: int, total: int, note: str = "") -> None:
            text = f"{title}: {note}" if note else title
            shown.update(task, completed=done, total=total, description=text)

        yield update
