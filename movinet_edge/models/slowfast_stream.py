"""SlowFast as a stream: causal, or the published network with a delay.

The Slow pathway runs at every `alpha`-th frame (a tick). Where the network looks ahead, an output
belongs to a frame some steps ago; outputs that belong to no frame, before the first one and after
the last, count as the zeros that a clip is padded with. Which steps were frames is kept in a
register beside the features (`valid`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from movinet_edge.models.slowfast_clip import clip_logits
from movinet_edge.models.slowfast_table import Pathway, normalised
from movinet_edge.models.slowfast_timing import timing
from movinet_edge.streaming.layers import DelayLine, StreamBuffer, tick
from movinet_edge.streaming.state import CLOCK, State

if TYPE_CHECKING:
    from movinet_edge.models.slowfast import Lateral, NonLocal, Pool, SlowFast


class StreamClock:
    """The steps of one pathway, T of them at once; `entries` are the next states.

    Args:
        pathway: its name.
        valid: 1 where a step of this chunk is a frame and 0 behind the end, [B, T].
        behind: steps that the pathway is behind at its end; 0: causal.
        fast: the Fast pathway's features of this chunk, and at which of its frames ticks are.
    """

    def __init__(
        self,
        pathway: Pathway,
        state: State,
        valid: Tensor,
        behind: int,
        fast: Sequence[Tensor] = (),
        ticks: Sequence[int] = (),
    ):
        self.state, self.fast, self.ticks = state, fast, ticks
        self.behind, self.steps = behind, valid.shape[1]
        self.delay = 0  # of what is computed next
        self.entries: State = {}
        self._register = valid
        if behind:
            key = f"{pathway}.valid"
            before = state.get(key, valid.new_zeros(valid.shape[0], behind))
            self._register = torch.cat([before, valid], 1)
            self.entries[key] = self._register[:, -behind:]

    @property
    def valid(self) -> Tensor:
        """1 where what is computed now belongs to a frame, [B, T]."""
        start = self.behind - self.delay
        return self._register[:, start : start + self.steps]

    def masked(self, x: Tensor) -> Tensor:
        return x * self.valid[..., None, None, None] if self.behind else x

    def stacked(self, buffer: StreamBuffer | None, x: Tensor) -> tuple[Tensor, Tensor]:
        if buffer is None:
            return x, x
        window = self._buffered(buffer, self.masked(x))
        parts = [window[:, i : i + self.steps] for i in range(buffer.past + 1)]
        back = buffer.past // 2 if self.behind else 0
        self.delay += back
        return torch.cat(parts, 2), parts[buffer.past - back]

    def lateral(self, lateral: Lateral, place: int) -> Tensor:
        window = self._buffered(lateral.stream, self.fast[place])
        past = lateral.stream.past
        # Chunk frame i is at past + i; the oldest frame of a tick's window is past + i - past.
        parts = [window[:, [i + k for i in self.ticks]] for k in range(lateral.kernel)]
        assert lateral.kernel + lateral.age == past + 1
        return torch.cat(parts, 2)

    def delayed(self, buffer: DelayLine, x: Tensor) -> Tensor:
        self.delay += buffer.past
        return self.waiting(buffer, x)

    def waiting(self, buffer: DelayLine, x: Tensor) -> Tensor:
        return self._buffered(buffer, x)[:, : x.shape[1]]

    def affinity(self, block: NonLocal, x: Tensor) -> Tensor:
        raise ValueError("non-local blocks see all frames; this model does not stream")

    def mean(self, pool: Pool, x: Tensor) -> Tensor:
        """Features [B, T, C, h, w] -> their mean over all frames or the last `window`, [B, T, C].

        Only steps that belong to frames count.
        """
        valid = self.valid[..., None]
        values = x.mean((3, 4)) * valid
        if pool.window is not None:
            return self._window_mean(pool, values, valid)
        count = self.state.get(f"{pool.key}.count", valid.new_zeros(len(valid), 1))
        mean = self.state.get(pool.key, values.new_zeros(len(values), values.shape[2]))
        counts = count[:, None] + valid.cumsum(1)
        total = (mean * count)[:, None] + values.cumsum(1)
        means = torch.where(counts > 0, total / counts.clamp(min=1), mean[:, None])
        last = means[:, -1] if self.steps else mean
        self.entries[f"{pool.key}.count"] = counts[:, -1] if self.steps else count
        self.entries[pool.key] = last
        return means

    def _window_mean(self, pool: Pool, values: Tensor, valid: Tensor) -> Tensor:
        """Sums over the last steps; the count is a sum of the same window."""
        assert pool.window is not None
        both = torch.cat([values, valid], 2)
        past = pool.window - 1
        before = self.state.get(pool.key, both.new_zeros(len(both), past, both.shape[2]))
        window = torch.cat([before, both], 1)
        self.entries[pool.key] = window[:, window.shape[1] - past :]
        if not self.steps:  # no tick in this chunk
            return values
        sums = window.unfold(1, pool.window, 1).sum(3)
        return sums[..., :-1] / sums[..., -1:].clamp(min=1)

    def _buffered(self, buffer: StreamBuffer, x: Tensor) -> Tensor:
        window, entry = buffer(x, self.state)
        self.entries |= entry
        return window


def stream_features(
    model: SlowFast, x: Tensor, state: State, valid: Tensor | None = None
) -> tuple[dict[str, tuple[StreamClock, Tensor]], list[int], State]:
    """Last features of each pathway with its clock, the ticks among the frames, the next state.

    `x` [B, T, 3, H, W] in [0, 1]; `valid` [T] is 0 behind the end of the video.
    """
    arch, met = model.arch, timing(model.arch)
    x = normalised(x)
    flags = x.new_ones(x.shape[1]) if valid is None else valid
    flags = flags.expand(x.shape[0], -1)
    after = tick(state, x)
    seen = int(state[CLOCK]) if CLOCK in state and state[CLOCK].device.type != "meta" else 0
    ticks = [i for i in range(x.shape[1]) if (seen + i) % arch.every == 0]
    found: dict[str, tuple[StreamClock, Tensor]] = {}
    fast: list[Tensor] = []
    if "fast" in arch.pathways:
        clock = StreamClock("fast", state, flags, met.fast_frames)
        fast = model.pathway("fast")(clock, x)
        found["fast"] = clock, fast[-1]
    if "slow" in arch.pathways:
        clock = StreamClock("slow", state, flags[:, ticks], met.slow_ticks, fast, ticks)
        found["slow"] = clock, model.pathway("slow")(clock, x[:, ticks])[-1]
    return found, ticks, after


def stream_logits(
    model: SlowFast, x: Tensor, state: State, valid: Tensor | None = None
) -> tuple[Tensor, State]:
    """Logits per frame [B, T, classes] and the next state; see `stream_features`."""
    found, ticks, after = stream_features(model, x, state, valid)
    means = []
    for pathway in model.arch.pathways:
        clock, features = found[pathway]
        pool = model.pools(pathway)
        mean = clock.mean(pool, features)
        if pathway == "slow" and model.arch.every > 1:
            mean = _held(mean, ticks, x.shape[1], state.get(f"{pool.key}.held"))
            clock.entries[f"{pool.key}.held"] = mean[:, -1]
        means.append(mean)
    for clock, _ in found.values():
        after = clock.entries | after
    return model.head(means), after


def _held(mean: Tensor, ticks: Sequence[int], frames: int, before: Tensor | None) -> Tensor:
    """Values of ticks [B, ticks, C], each held until the next one: [B, frames, C]."""
    if before is None:
        before = mean.new_zeros(mean.shape[0], mean.shape[2])
    known = torch.cat([before[:, None], mean], 1)
    at = [sum(t <= frame for t in ticks) for frame in range(frames)]
    return known[:, at]


class DelayedSlowFast(nn.Module):
    """The same weights as a stream with a delay: logits after frame t know frame t - delay.

    Behind the last frame `delay` more steps with `valid` 0 complete it; then the answer is that
    of the whole video.
    """

    def __init__(self, model: SlowFast):
        super().__init__()
        self.model, self.arch = model, model.arch
        self.delay = timing(model.arch).delay

    def forward(
        self, x: Tensor, state: State | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Frames [B, T, 3, H, W] in [0, 1], flags [T] -> logits [B, T, classes], next state."""
        return stream_logits(self.model, x, state or {}, valid)

    def completed(self, x: Tensor) -> Tensor | None:
        """What the completed stream must answer for frames [B, T, 3, H, W]: [B, classes].

        Computed as one clip; None where the answer is not that of all frames.
        """
        if self.arch.pool == "window":
            return None
        ticks = range(0, x.shape[1], self.arch.every)
        return clip_logits(self.model, x, list(ticks), places=False)[:, 0]
