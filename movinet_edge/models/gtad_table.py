"""G-TAD (arXiv 1911.11462) as a table: its sizes on each data set.

Sizes are those of frostinassiky/gtad: its branches `anet`, `master` (THUMOS14) and `hacs`.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from movinet_edge.localization.anchors import Anchors
from movinet_edge.record import Record

NEIGHBOURS = 3  # of a node in the semantic graph, itself among them
CHANNELS = 256  # of every node
GROUPS, GROUP_WIDTH = 32, 4  # inside a graph convolution
STEM_GROUPS = 4
ALIGNED, LOCALIZED = 512, 128  # channels of an anchor


class GTadArch(Record):
    """A localization head; `label` names it, everything else defines it.

    It takes `features` channels at `snippets` places of a video and scores all segments of at most
    `durations` of them. Each is sampled in `bins` parts, and in `context_bins` from the mean of
    every node's neighbours. The convolutions over the map of segments are of size `kernel`.
    """

    family: Literal["gtad"] = "gtad"
    label: str = "custom"
    features: int = Field(400, ge=1, multiple_of=STEM_GROUPS)
    snippets: int = Field(100, ge=NEIGHBOURS)
    durations: int = Field(100, ge=1)
    bins: int = Field(32, ge=1)
    context_bins: int = Field(4, ge=1)
    kernel: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.durations > self.snippets:
            raise ValueError(f"there are no {self.durations} durations in {self.snippets} snippets")
        if self.kernel % 2 == 0:
            raise ValueError("kernels have odd sizes")
        return self

    @property
    def name(self) -> str:
        return f"gtad-{self.label}"

    @property
    def summary(self) -> str:
        return (
            f"{self.features} features at {self.snippets} places, {self.durations} durations, "
            f"{self.bins} + {self.context_bins} bins, kernel {self.kernel}x{self.kernel}"
        )

    def anchors(self, snippets: int | None = None) -> Anchors:
        """What it scores, of a video in so many snippets: the same shares of the video.

        LoFi trains the same weights on videos in fewer snippets.
        """
        count = snippets or self.snippets
        return Anchors(count, max(round(self.durations * count / self.snippets), 1))


VARIANTS: dict[str, dict[str, object]] = {
    "activitynet": {},
    "hacs": {"features": 2048},
    "thumos": {
        "features": 2048,
        "snippets": 256,
        "durations": 64,
        "bins": 16,
        "context_bins": 16,
        "kernel": 3,
    },
    # The state whose size the repository prints.
    "first": {"context_bins": 32, "kernel": 3},
}


def gtad_arch(label: str, **changes: object) -> GTadArch:
    """The architecture of a variant, with `changes` on top."""
    return GTadArch.model_validate({"label": label} | VARIANTS[label] | changes)
