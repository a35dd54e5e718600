"""AR-Net (arXiv 2007.15796) as tables: which networks at which scales, actions, and baselines.

The published networks follow mengyuest/AR-Net: a policy on 84 pixels looks at every frame and picks
one of three backbones, its own answer, or to skip 1, 2 or 4 frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from movinet_edge.bundle import Rescale
from movinet_edge.models.arch import ModelArch, OwnClips
from movinet_edge.models.backbone_table import SMALLEST_SIDE, Backbone

Decides = Literal["policy", "random", "all"]
Held = Literal["both", "hidden"]


@dataclass(frozen=True)
class Action:
    """What can be done with a frame: `backbone` looks at it (None: nothing but the policy does).

    `skip` frames, this one the first, are not looked at; 0: this one is.
    """

    name: str
    backbone: int | None = None
    skip: int = 0


class ArNetArch(OwnClips, ModelArch):
    """A network that chooses for every frame; `label` names it, everything else defines it.

    Without `policy` nothing is chosen: all `backbones` look at all frames. With `lite` the policy's
    own class prediction is one of the actions. `hidden` is the length of its LSTM's state.
    `decides`: the policy, chance (each action alike, skips not carried over), or all looks are
    taken at once. Frames have `resolution` pixels and are made smaller by the rule `rescale`. While
    a skip runs, `hold` says what of the LSTM stays as it is: ``both`` of its states, so that
    nothing has to run, or the ``hidden`` one only, as in the public code. A clip has `frames`
    frames, `rate` of them per second.
    """

    family: Literal["arnet"] = "arnet"
    label: str = "custom"
    policy: Backbone | None = Backbone(name="mobilenet-v2", side=84)
    backbones: tuple[Backbone, ...] = ()
    lite: bool = True
    skips: tuple[int, ...] = (1, 2, 4)
    hidden: int = Field(512, ge=1)
    decides: Decides = "policy"
    rescale: Rescale = "nearest"
    hold: Held = "both"
    frames: int = Field(16, ge=1)
    rate: float = Field(1.0, gt=0)
    classes: int = Field(200, ge=1)
    resolution: int = Field(224, ge=32)
    dropout: float = Field(0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = [action.name for action in self.actions]
        if not self.causal:
            raise ValueError("an AR-Net sees the past only")
        if len(set(names)) < len(names):
            raise ValueError("two actions are the same")
        if not self.looks:
            raise ValueError("there is no network that looks at frames")
        if any(skip < 1 for skip in self.skips):
            raise ValueError("a skip is of 1 frame or more")
        if self.policy is None and (self.skips or self.decides != "all"):
            raise ValueError("without a policy there is nothing to decide and nothing to skip")
        sides = [b.side for b in (self.policy, *self.backbones) if b is not None]
        if max(sides) > self.resolution:
            raise ValueError(f"frames of {self.resolution} pixels cannot become larger")
        return self

    @property
    def name(self) -> str:
        return f"arnet-{self.label}"

    @property
    def summary(self) -> str:
        held = f", skips hold {'h and c' if self.hold == 'both' else 'h'}" if self.skips else ""
        return f"{', '.join(a.name for a in self.actions)}; {self.rescale}{held}"

    @property
    def actions(self) -> tuple[Action, ...]:
        """In the order of the policy's outputs."""
        looks = [Action(str(backbone), k) for k, backbone in enumerate(self.backbones)]
        if self.policy is not None and self.lite:
            looks.append(Action(str(self.policy)))
        return *looks, *(Action(f"skip {skip}", skip=skip) for skip in self.skips)

    @property
    def looks(self) -> int:
        """How many of the actions, the first ones, look at the frame."""
        return len(self.actions) - len(self.skips)

    @property
    def chooses(self) -> bool:
        """Whether one action is taken for each frame."""
        return self.decides != "all" and len(self.actions) > 1

    @property
    def deploys(self) -> bool:
        """Not where chance decides, nor where several networks answer for a frame."""
        return self.decides != "random" and (self.chooses or len(self.actions) == 1)

    def resized(self, classes: int, side: int, frames: int) -> ArNetArch:
        """All scales keep their ratios to the frame, down to the least that backbones take."""

        def scaled(backbone: Backbone) -> Backbone:
            own = max(round(backbone.side * side / self.resolution), SMALLEST_SIDE)
            return backbone.model_copy(update={"side": own})

        changes: dict[str, object] = {"classes": classes, "resolution": side, "frames": frames}
        changes["policy"] = None if self.policy is None else scaled(self.policy)
        changes["backbones"] = tuple(scaled(backbone) for backbone in self.backbones)
        return self.model_copy(update=changes)

    def alone(self, backbone: int) -> ArNetArch:
        """One backbone on all frames: the first stage of training, and a baseline."""
        only: dict[str, object] = {"policy": None, "lite": False, "skips": (), "decides": "all"}
        label = f"{self.label}-scale-{self.backbones[backbone].side}"
        return self.model_copy(
            update=only | {"label": label, "backbones": (self.backbones[backbone],)}
        )

    def baselines(self) -> tuple[ArNetArch, ...]:
        """What the paper compares with: nothing chosen, chosen by chance, all at once, an LSTM.

        A single scale for every backbone; of the first one it is the paper's UNIFORM. ``lite`` is
        the policy's own answer alone, which a policy may also be trained as beforehand.
        """
        alone: dict[str, object] = {"backbones": (), "skips": (), "lite": True}
        named: dict[str, dict[str, object]] = {
            "random": {"decides": "random"},
            "multi-scale": {"decides": "all", "skips": ()},
            "lstm": alone | {"policy": self.backbones[0], "decides": "all"},
            "lite": alone | {"decides": "all"},
        }
        changed = (
            self.model_copy(update=changes | {"label": f"{self.label}-{name}"})
            for name, changes in named.items()
        )
        return *(self.alone(k) for k in range(len(self.backbones))), *changed


def _scales(*names: str, full: int = 224) -> tuple[Backbone, ...]:
    """The published scales: all, three quarters and half of a frame's side."""
    sides = (full, full * 3 // 4, full // 2)
    return tuple(Backbone(name=n, side=s) for n, s in zip(names, sides, strict=True))


# The phone's and the tiny one are for small frames. The tiny and the small one have ResNets, which
# learn soonest, for small data sets such as the motion videos.
VARIANTS: dict[str, dict[str, object]] = {
    "resnet": {"backbones": _scales("resnet50", "resnet34", "resnet18")},
    "efficientnet": {"backbones": _scales("efficientnet-b3", "efficientnet-b1", "efficientnet-b0")},
    "mobile": {
        "policy": Backbone(name="phone-s", side=84),
        "backbones": _scales("mobilenet-v2", "phone-l", "phone-m"),
        "hidden": 256,
    },
    "small": {
        "policy": Backbone(name="resnet-nano", side=64),
        "backbones": _scales("resnet-midi", "resnet-midi", "resnet-mini"),
        "hidden": 128,
        "rate": 5.0,
        "dropout": 0.1,
    },
    "phone": {
        "policy": Backbone(name="phone-xs", side=36),
        "backbones": _scales("phone-m", "phone-s", "phone-xs", full=80),
        "hidden": 128,
        "resolution": 80,
        "rescale": "area",
        "rate": 5.0,
        "dropout": 0.2,
    },
    "tiny": {
        "policy": Backbone(name="resnet-nano", side=32),
        "backbones": _scales("resnet-mini", "resnet-tiny", "resnet-micro", full=80),
        "hidden": 128,
        "resolution": 80,
        "rescale": "area",
        "rate": 5.0,
        "dropout": 0.1,
    },
}


def arnet_arch(label: str, **changes: object) -> ArNetArch:
    """The architecture of a variant, with `changes` on top."""
    return ArNetArch.model_validate({"label": label} | VARIANTS[label] | changes)
