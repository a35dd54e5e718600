"""Pages in a real browser: Chromium without a window, asked what it laid out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120  # seconds
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--allow-file-access-from-files", "--virtual-time-budget=2000", "--disable-dev-shm-usage"),
)
# The page in a frame of its own: a window cannot be as narrow as a phone. What sticks out of it to
# the right, but for what is in a part that scrolls, is told by tag and class.
FRAME = """<!DOCTYPE html><body style="margin: 0">
<iframe src="{page}" style="border: 0; width: {width}px; height: {height}px"></iframe>
<script>
document.querySelector("iframe").onload = (event) => {{
  const page = event.target.contentDocument, root = page.documentElement;
  const scrolls = (one) => one.closest(".wide, svg") !== null;
  const wider = [...page.body.querySelectorAll("*")].filter((one) => !scrolls(one)
    && one.getBoundingClientRect().right > {width} + 0.5);
  document.body.dataset.found = JSON.stringify({{
    width: Math.max(root.scrollWidth, root.clientWidth), height: root.scrollHeight,
    wider: wider.map((one) => one.tagName + "." + one.className),
    requests: event.target.contentWindow.performance.getEntriesByType("resource").length,
  }});
}};
</script>
"""


@dataclass(frozen=True)
class Shown:
    """A page as it was laid out, in CSS pixels; `requests` counts what it loaded beside itself."""

    width: int
    height: int
    wider: list[str]
    requests: int
    picture: Image.Image


class _Found(HTMLParser):
    data: dict[str, Any] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs).get("data-found")
        if tag == "body" and found:
            self.data = json.loads(found)


@dataclass(frozen=True)
class Browser:
    program: str

    @classmethod
    def found(cls) -> Browser:
        """The browser of this machine; the test is skipped where there is none."""
        wanted = os.environ.get("MOVINET_EDGE_BROWSER")
        program = wanted or next(filter(None, map(shutil.which, NAMES)), None)
        if program is None:
            pytest.skip("no browser: install chromium, or name one in MOVINET_EDGE_BROWSER")
        return cls(program)

    def open(self, page: Path, width: int) -> Shown:
        """Lay a page out so wide, and take a picture of all of it."""
        harness = page.with_suffix(f".{width}.frame.html")
        harness.write_text(FRAME.format(page=page.as_uri(), width=width, height=800))
        parser = _Found()
        parser.feed(self._run("--dump-dom", harness))
        assert parser.data is not None, "the browser laid nothing out"
        height = parser.data["height"]
        harness.write_text(FRAME.format(page=page.as_uri(), width=width, height=height))
        target = page.with_suffix(f".{width}.png")
        # A window is at least 500 wide, and its frame counts.
        size = f"--window-size={max(width, 500)},{height + 200}"
        self._run(f"--screenshot={target}", harness, size)
        with Image.open(target) as picture:
            shown = picture.crop((0, 0, width, height))
            shown.load()
        shown.save(target)
        return Shown(**parser.data, picture=shown)

    def _run(self, task: str, page: Path, *more: str) -> str:
        profile = f"--user-data-dir={page.parent / 'profile'}"
        command = [self.program, *SWITCHES, profile, *more, task, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout
