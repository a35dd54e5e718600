"""``movinet-edge verify``."""

from __future__ import annotations


def verify() -> None:
    """Placeholder."""
