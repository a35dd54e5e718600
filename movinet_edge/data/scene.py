"""A small drawn world whose attributes move: what the procedural motion videos show.

Every scene has the same things in it: a textured box with two sliding doors, a gripper over a
small item, wandering distractors, a textured background. An attribute in [0, 1] says where each
of them is, so a single frame tells nothing about how the attributes change.
"""

from __future__ import annotations

import numpy as np

ATTRIBUTES = ("across", "height", "turn", "size", "doors", "lift", "light")
DISTRACTORS = 2

Tracks = dict[str, np.ndarray]  # attribute -> its value in every frame, float32 [T]


class Scene:
    """Looks and places of one scene, drawn from `rng`; `render` shows it over time."""

    def __init__(self, size: int, rng: np.random.Generator):
        self.size = size
        self.background = _texture(rng, size + size // 4, detail=int(rng.integers(4, 9)))
        self.doors = _texture(rng, 64, detail=int(rng.integers(5, 9)), stripes=True)
        ground = self.background.mean((0, 1))
        self.item = _away(ground, rng) + 0.5 * (_texture(rng, 16, detail=3) - 0.5)
        self.gripper = _away(ground, rng)
        self.inside = rng.uniform(0, 0.12, 3)
        # Python's numbers: those of numpy would turn all pictures into float64.
        self.first_angle = float(rng.uniform(0, 2 * np.pi))
        self.full_turn = float(rng.uniform(2.0, 4.0))
        self.radius = float(rng.uniform(0.19, 0.23))
        self.column = float(rng.uniform(0.15, 0.85))
        self.ground = float(rng.uniform(0.8, 0.95))
        self.colours = rng.uniform(0, 1, (DISTRACTORS, 3))
        self.homes = rng.uniform(0.1, 0.9, (DISTRACTORS, 2))
        self.radii = rng.uniform(0.03, 0.06, DISTRACTORS).tolist()
        self.wander = rng.uniform(0.02, 0.06, (DISTRACTORS, 2))
        self.pace = rng.uniform(1.5, 5, (DISTRACTORS, 2))
        self.begin = rng.uniform(0, 2 * np.pi, (DISTRACTORS, 2))

    def render(self, tracks: Tracks, seconds: np.ndarray, shake: np.ndarray) -> np.ndarray:
        """float32 [T, size, size, 3] in [0, 1].

        Args:
            tracks: all of `ATTRIBUTES`, each [T].
            seconds: the time of each frame, [T].
            shake: the camera's displacement in frame sides, [T, 2] (x, y), within 0.1.
        """
        video = self._backdrop(shake)
        centres = (np.arange(self.size, dtype=np.float32) + 0.5) / self.size
        x = centres[None, None, :] + shake[:, 0, None, None].astype(np.float32)
        y = centres[None, :, None] + shake[:, 1, None, None].astype(np.float32)
        for number in range(DISTRACTORS):
            wave = np.sin(self.pace[number] * seconds[:, None] + self.begin[number])
            place = (self.homes[number] + self.wander[number] * wave).astype(np.float32)
            self._disc(video, x, y, place, number)
        self._box(video, x, y, tracks)
        self._gripper(video, x, y, tracks["lift"])
        return video * (0.45 + 0.55 * tracks["light"])[:, None, None, None].astype(np.float32)

    def _backdrop(self, shake: np.ndarray) -> np.ndarray:
        margin = self.size // 8
        corner = np.rint(margin + shake * self.size).astype(int)
        return np.stack([self.background[v : v + self.size, u : u + self.size] for u, v in corner])

    def _disc(
        self, video: np.ndarray, x: np.ndarray, y: np.ndarray, place: np.ndarray, number: int
    ) -> None:
        far = np.hypot(x - place[:, 0, None, None], y - place[:, 1, None, None])
        cover = ((self.radii[number] - far) * self.size + 0.5).clip(0, 1)
        _paint(video, cover, self.colours[number])

    def _box(self, video: np.ndarray, x: np.ndarray, y: np.ndarray, tracks: Tracks) -> None:
        def column(values: np.ndarray) -> np.ndarray:
            return values[:, None, None].astype(np.float32)

        radius = column(self.radius * (0.5 + tracks["size"]))
        dx = x - column(0.22 + 0.56 * tracks["across"])
        dy = y - column(0.22 + 0.56 * tracks["height"])
        angle = self.first_angle + self.full_turn * tracks["turn"]
        cos, sin = column(np.cos(angle)), column(np.sin(angle))
        u, v = (dx * cos + dy * sin) / radius, (dy * cos - dx * sin) / radius
        gap = column(0.8 * tracks["doors"])
        pixels = radius * self.size
        tall = ((1 - np.abs(v)) * pixels + 0.5).clip(0, 1)
        _paint(video, ((gap - np.abs(u)) * pixels + 0.5).clip(0, 1) * tall, self.inside)
        # Both doors slide outwards by `gap` and take their texture with them.
        on_door = np.abs(u) - gap
        wide = (np.minimum(on_door, 1 - on_door) * pixels + 0.5).clip(0, 1)
        side = self.doors.shape[0] - 1
        row = ((v + 1) / 2 * side).clip(0, side).astype(np.int32)
        column_of = ((np.sign(u) * on_door + 1) / 2 * side).clip(0, side).astype(np.int32)
        _paint(video, wide * tall, self.doors[row, column_of])

    def _gripper(self, video: np.ndarray, x: np.ndarray, y: np.ndarray, lift: np.ndarray) -> None:
        """The hand goes down while `lift` < 1/2; beyond it, it goes up with the item."""
        size, half = self.size, 0.06  # of the item; the hand closes around it
        down = 1 - np.abs(2 * lift - 1)
        top, bottom = 0.1, self.ground - 3 * half
        hand = (top + (bottom - top) * down).astype(np.float32)[:, None, None]
        held = (lift > 0.5)[:, None, None]
        item = np.where(held, hand, np.float32(bottom)) + 2 * half
        across = np.abs(x - self.column)
        _paint(video, _bar(across, 0.02, size) * _below(hand - y, size), self.gripper)
        outer, inner = 1.6 * half, 1.15 * half
        fingers = _bar(across, outer, size) * (1 - _bar(across, inner, size))
        reach = _below(hand + 2 * half - y, size) * _below(y - hand, size)
        palm = _bar(across, outer, size) * _bar(np.abs(y - hand), 0.02, size)
        _paint(video, np.maximum(fingers * reach, palm), self.gripper)
        cover = _bar(across, half, size) * _bar(np.abs(y - item), half, size)
        side = self.item.shape[0] - 1
        row = (((y - item) / half + 1) / 2 * side).clip(0, side).astype(np.int32)
        column = (((x - self.column) / half + 1) / 2 * side).clip(0, side).astype(np.int32)
        row, column = np.broadcast_arrays(row, column)
        _paint(video, cover, self.item[row, column])


def _bar(distance: np.ndarray, half: float, size: int) -> np.ndarray:
    """1 within `half` of the middle, with one pixel of soft edge."""
    return ((half - distance) * size + 0.5).clip(0, 1)


def _below(depth: np.ndarray, size: int) -> np.ndarray:
    return (depth * size + 0.5).clip(0, 1)


def _paint(video: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    """Lay `colour` over the video where `cover` in [0, 1] says so, in place."""
    # Most things are small: the part of the picture that they ever reach.
    rows, columns = (np.flatnonzero(cover.any(axis)) for axis in ((0, 2), (0, 1)))
    if not len(rows):
        return
    part = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    shade = colour[part] if colour.ndim > 1 else colour
    video[part] += cover[part][..., None] * (shade.astype(np.float32) - video[part])


def _away(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A colour that stands out against `colour` in every channel."""
    step = rng.uniform(0.4, 0.6, 3)
    return np.where(colour < 0.5, colour + step, colour - step)


def _texture(rng: np.random.Generator, side: int, detail: int, stripes: bool = False) -> np.ndarray:
    """Smooth coloured noise of `detail` cells per side, float32 [side, side, 3] in [0, 1]."""
    cells = rng.normal(0, 0.13, (detail, detail, 1)) + rng.normal(0, 0.06, (detail, detail, 3))
    place = np.linspace(0, detail - 1, side)
    low = place.astype(int).clip(0, detail - 2)
    part = (place - low)[:, None, None]
    rows = cells[low] * (1 - part) + cells[low + 1] * part
    part = part.transpose(1, 0, 2)
    image = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    image = image + rng.uniform(0.2, 0.8, 3)
    if stripes:
        y, x = np.mgrid[0:side, 0:side] / side
        angle, pitch = rng.uniform(0, np.pi), rng.uniform(2, 5)
        wave = np.sin(2 * np.pi * pitch * (x * np.cos(angle) + y * np.sin(angle)))
        image = image + 0.25 * np.sign(wave)[..., None] * rng.uniform(0.3, 1, 3)
    return image.clip(0, 1).astype(np.float32)
