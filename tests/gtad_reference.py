"""G-TAD as the public code computes it, written plainly: one anchor, bin and sample at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def interpolated(signal: np.ndarray, t: float) -> np.ndarray:
    """A signal [C, T] at time t: zeros more than one step outside, its ends up to there."""
    length = signal.shape[1]
    if t < -1 or t > length:
        return np.zeros(len(signal))
    t = max(t, 0.0)
    low = int(t)
    if low >= length - 1:
        return signal[:, length - 1]
    return (1 - (t - low)) * signal[:, low] + (t - low) * signal[:, low + 1]


def roi_align(signal: np.ndarray, start: float, end: float, bins: int) -> np.ndarray:
    """The mean over samples in each of the bins of a region, [C, bins]."""
    size = max(end - start, 1.0) / bins
    samples = math.ceil(size)
    out = np.zeros((len(signal), bins))
    for b in range(bins):
        for i in range(samples):
            out[:, b] += interpolated(signal, start + b * size + (i + 0.5) * size / samples)
    return out / samples


def region(start: int, duration: int, snippets: int) -> tuple[float, float]:
    """What is sampled for cell `start` and row `duration` of the map."""
    if start + duration >= snippets:
        return 0.0, 0.0
    half = (duration + 1) * 0.5
    return start - half, start + duration + half


def samples(signal: np.ndarray, context: np.ndarray, at: tuple[float, float], bins: Any) -> Any:
    """One anchor's numbers in the order channel, bin; [C * (bins + context bins)]."""
    parts = [roi_align(s, *at, n) for s, n in zip((signal, context), bins, strict=True)]
    return np.concatenate(parts, 1).reshape(-1)


def neighbours(x: Tensor) -> Tensor:
    """Places [B, C, T] -> numbers of the three nearest ones, [B, T, 3]; of equals the first."""
    distance = (x[:, :, :, None] - x[:, :, None, :]).square().sum(1)
    return distance.sort(stable=True, dim=2).indices[:, :, :3]


def picked(x: Tensor, numbers: Tensor) -> Tensor:
    """[B, C, T] -> [B, C, T, 3]."""
    return torch.stack([video[:, index] for video, index in zip(x, numbers, strict=True)])


class GCNeXt(nn.Module):
    """In the public repository's names."""

    def __init__(self) -> None:
        super().__init__()
        self.tconvs = nn.Sequential(
            *(nn.Conv1d(256, 128, 1), nn.ReLU()),
            *(nn.Conv1d(128, 128, 3, groups=32, padding=1), nn.ReLU()),
            nn.Conv1d(128, 256, 1),
        )
        self.sconvs = nn.Sequential(
            *(nn.Conv2d(512, 128, 1), nn.ReLU()),
            *(nn.Conv2d(128, 128, 1, groups=32), nn.ReLU()),
            nn.Conv2d(128, 256, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        near = picked(x, neighbours(x))
        pairs = torch.cat([near, x[..., None].expand_as(near)], 1)
        return torch.relu(self.tconvs(x) + x + self.sconvs(pairs).max(3).values)


class PublicGTad(nn.Module):
    """The whole head in the public repository's names, with the whole map of samples."""

    def __init__(self, features: int, durations: int, bins: tuple[int, int], kernel: int):
        super().__init__()
        self.durations, self.bins, pad = durations, bins, kernel // 2
        stem = nn.Conv1d(features, 256, 3, padding=1, groups=4)
        self.backbone1 = nn.Sequential(stem, nn.ReLU(), GCNeXt())
        self.regu_s = nn.Sequential(GCNeXt(), nn.Conv1d(256, 1, 1), nn.Sigmoid())
        self.regu_e = nn.Sequential(GCNeXt(), nn.Conv1d(256, 1, 1), nn.Sigmoid())
        self.backbone2 = nn.Sequential(GCNeXt())
        self.localization = nn.Sequential(
            *(nn.Conv2d(256 * sum(bins), 512, 1), nn.ReLU()),
            *(nn.Conv2d(512, 128, 1), nn.ReLU()),
            *(nn.Conv2d(128, 128, kernel, padding=pad), nn.ReLU()),
            *(nn.Conv2d(128, 128, kernel, padding=pad), nn.ReLU()),
            *(nn.Conv2d(128, 2, 1), nn.Sigmoid()),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, C, T] -> map [B, 2, D, T], starts and ends [B, T]."""
        base = self.backbone1(x)
        places = self.backbone2(base)
        context = picked(places, neighbours(places)).mean(3)
        sampled = self.sampled(places, context)
        return self.localization(sampled), self.regu_s(base)[:, 0], self.regu_e(base)[:, 0]

    def sampled(self, places: Tensor, context: Tensor) -> Tensor:
        """[B, channels * bins, D, T]."""
        count = places.shape[2]
        found = [
            [
                [samples(s, c, region(start, d, count), self.bins) for start in range(count)]
                for d in range(self.durations)
            ]
            for s, c in zip(places.detach().numpy(), context.detach().numpy(), strict=True)
        ]
        return torch.from_numpy(np.array(found)).float().permute(0, 3, 1, 2)
