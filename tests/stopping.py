"""Training runs that are stopped in the middle."""

from __future__ import annotations

from collections.abc import Callable

from movinet_edge.train.loop import Progress


class Stopped(Exception):
    pass


def stop_after(step: int) -> Callable[[Progress], None]:
    """A listener that ends a run behind a step."""

    def tell(now: Progress) -> None:
        if now.step == step and not now.ends_epoch:
            raise Stopped

    return tell
