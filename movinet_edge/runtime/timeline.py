"""A picture of the segments of a video along its time (Pillow)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from movinet_edge.errors import BadInput
from movinet_edge.files import NewFile, atomic_file, write_errors
from movinet_edge.runtime.tracks import Segment
from movinet_edge.runtime.video import BadVideo, VideoFile, on_screen, upright

WIDTH, MARGIN, ROW, GAP, PICTURE = 1100, 16, 22, 6, 72
PICTURES = 12
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
COLOURS = ("#3b78d8", "#d8623b", "#3ba55d", "#9a4fd0", "#c49a17", "#c23b78", "#2fa3a8", "#7a7a7a")
PALE = 0.35  # of a colour, at score 0


def check_timeline(path: Path) -> None:
    """Raise `BadInput` unless a timeline can be drawn and written there."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise BadInput("--save draws with Pillow; pip install 'movinet-edge[video]'") from None
    if path.suffix != ".png":
        raise BadInput(f"--save draws segments as a .png; name it {path.with_suffix('.png')}")
    NewFile(path).discard()


def thumbnails(video: str | Path, seconds: float) -> list[np.ndarray]:
    """A few frames spread over a video, uint8 [H, W, 3]; none where it cannot be read."""
    times = [Fraction(seconds) * number / PICTURES for number in range(PICTURES)]
    try:
        with VideoFile(video) as file:
            return [upright(frame) for _, frame in on_screen(file.pictures(), times)]
    except BadVideo:
        return []


def save_timeline(
    path: Path,
    segments: Sequence[Segment],
    seconds: float,
    title: str,
    pictures: Sequence[np.ndarray] = (),
) -> None:
    """Draw segments of `seconds` of video, a row for each label; the paler, the lower the score.

    Segments of one label that overlap get rows of their own.

    Args:
        pictures: frames to show above, spread evenly.

    Raises:
        BadInput: the place cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    labels = list(dict.fromkeys(s.label for s in sorted(segments, key=lambda s: s.start)))
    rows = [(label, row) for label in labels for row in _rows(segments, label)]
    left = MARGIN + max([int(font.getlength(label)) for label in labels] + [0]) + 12
    top = MARGIN + 24 + (PICTURE + GAP if pictures else 0)
    height = top + max(len(rows), 1) * (ROW + GAP) + 24 + MARGIN
    image = Image.new("RGB", (WIDTH, height), "white")
    layer = ImageDraw.Draw(image)
    layer.text((MARGIN, MARGIN - 4), title, fill="black", font=font)
    scale = (WIDTH - left - MARGIN) / seconds
    for number, picture in enumerate(pictures):
        width = (WIDTH - left - MARGIN) / len(pictures)
        part = Image.fromarray(picture)
        part.thumbnail((int(width) - 2, PICTURE))
        image.paste(part, (int(left + number * width), MARGIN + 24))
    bottom = top + max(len(rows), 1) * (ROW + GAP)
    step = next((tick for tick in TICKS if seconds / tick <= 12), seconds)
    for number in range(math.floor(seconds / step) + 1):
        x = left + number * step * scale
        layer.line((x, top, x, bottom), fill="#dddddd")
        layer.text((x, bottom + 4), f"{number * step:g} s", fill="#555555", font=small, anchor="ma")
    before = ""
    for number, (label, row) in enumerate(rows):
        y = top + number * (ROW + GAP)
        if label != before:
            layer.text((MARGIN, y + 2), label, fill="black", font=font)
        before = label
        colour = COLOURS[labels.index(label) % len(COLOURS)]
        for segment in row:
            box = (left + segment.start * scale, y, left + segment.end * scale, y + ROW)
            layer.rectangle(box, fill=_paled(colour, segment.score), outline=colour)
            text = f"{segment.score:.2f}"
            if box[2] - box[0] > small.getlength(text) + 6:
                layer.text((box[0] + 4, y + 4), text, fill="black", font=small)
    if not rows:
        layer.text((left, top + 2), "nothing was found", fill="#555555", font=font)
    with atomic_file(path) as work, write_errors(path):
        image.save(work, "PNG")


def _rows(segments: Sequence[Segment], label: str) -> list[list[Segment]]:
    """The segments of a label in rows in which none overlaps with another."""
    rows: list[list[Segment]] = []
    for segment in sorted((s for s in segments if s.label == label), key=lambda s: s.start):
        row = next((r for r in rows if r[-1].end <= segment.start), None)
        if row is None:
            rows.append([segment])
        else:
            row.append(segment)
    return rows


def _paled(colour: str, score: float) -> tuple[int, int, int]:
    """A colour mixed with white."""
    share = PALE + (1 - PALE) * min(max(score, 0.0), 1.0)
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return tuple(round(255 + (value - 255) * share) for value in (red, green, blue))  # type: ignore[return-value]
