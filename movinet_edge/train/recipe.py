"""A training recipe: everything that decides the weights besides the data.

A recipe is a record, stored in the run's folder and read from TOML. The defaults fine-tune a
small data set; the published recipe for Kinetics (Model Garden: RMSProp, learning rate 1.8 for a
batch of 1024, crops of 8-100 % of the area, label smoothing 0.1, stochastic depth 0.2) is the
shipped recipe ``kinetics-a0-stream``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from movinet_edge.bundle import Record
from movinet_edge.errors import BadInput
from movinet_edge.models.gtad_table import NEIGHBOURS
from movinet_edge.models.gtad_table import VARIANTS as HEADS
from movinet_edge.train.fidelity import PUBLISHED

FOLDER = "recipes"


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError(f"{list(pair)} is no range of positive numbers, smaller one first")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_rising)]


class Recipe(Record):
    """How to train. Sides are pixels, rates are per second, epochs count passes over the data."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # What is trained. Without a model, `init` decides the architecture.
    model: str | None = None
    init: str | None = None
    hidden: int | None = Field(None, ge=1)
    dropout: float | None = Field(None, ge=0, lt=1)
    drop_path: float | None = Field(None, ge=0, lt=1)
    # What the blocks' residual scales begin with; published: 0. From 0 a small data set takes
    # hundreds of steps to open the blocks, and only there frames are compared.
    residual_scale: float | None = None
    freeze: tuple[str, ...] = ()  # module names: "stem", "b0", ...; "backbone" is all but the head
    freeze_norm: bool = False  # batch norm keeps the statistics it has
    layer_decay: float = Field(1.0, gt=0, le=1)  # learning rate per stage, from the head down

    # Of models that are put together: PLACE=FILE, a backbone trained by itself.
    init_backbone: tuple[str, ...] = ()

    # Of models that decide (AR-Net's published values; the temperature is of an epoch, counted from
    # 0). Costs are of a table in a file, or multiply-adds; `dearest` scales them so that the
    # largest is that, as published: 4.09.
    temperature: float = Field(5.0, gt=0)
    temperature_decay: float = Field(0.045, ge=0)
    class_weight: float = Field(0.95, gt=0)
    cost_weight: float = Field(0.05, ge=0)
    uniform_weight: float = Field(3.0, ge=0)  # within `cost_weight`
    costs: str | None = None
    dearest: float | None = Field(None, gt=0)

    # Quantization-aware fine-tuning in simulated static int8; batch norm keeps its statistics. One
    # grid serves all channels of a tensor, badly if some reach far beyond the others. So channels
    # that reach beyond `spread` times the median of their tensor's are shrunk before the start
    # (0: none), and the penalty is on those that do so later.
    qat: bool = False
    qat_batches: int = Field(16, ge=1)  # to observe ranges on before the first step
    qat_after: int = Field(0, ge=0)  # steps before rounding begins
    spread: float = Field(6.0, ge=0)
    range_penalty: float = Field(0.0, ge=0)

    # Of localization. A video is `snippets` long at full fidelity and segments `durations` at most
    # (None: as the head of that name has it). `config` says what stage lofi sees of it: S, T, ST,
    # a cycle of these with a `reduction` of the input, or R_TxR_S. `segment_weight` is that of the
    # classifier of segments beside the head's losses.
    stage: Literal["acp", "lofi", "head"] | None = None
    head: str = "activitynet"
    snippets: int | None = Field(None, ge=NEIGHBOURS)
    durations: int | None = Field(None, ge=1)
    config: str = "cycle-long"
    reduction: float = Field(PUBLISHED, gt=1)
    segment_weight: float = Field(1.0, ge=0)

    # Clips: frames that follow each other, or one of each of `frames` equal parts of the video, as
    # AR-Net was published; validation then takes the middle of each part.
    sampling: Literal["stream", "uniform"] = "stream"
    frames: int = Field(16, ge=1)
    frame_rate: float | None = Field(None, gt=0)
    size: int | None = Field(None, ge=32)
    short_side: int | None = Field(None, ge=32)
    subclips: int = Field(1, ge=1)
    gradients: Literal["stop", "keep"] = "stop"
    crop_scale: Range = (0.3, 1.0)  # of the area
    crop_ratio: Range = (0.75, 4 / 3)  # width by height
    flip: bool = True
    brightness: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.0, ge=0, le=1)
    saturation: float = Field(0.0, ge=0, le=1)

    # Optimisation.
    epochs: int = Field(10, ge=1)
    batch: int = Field(16, ge=1)  # clips of one step, over all processes
    optimizer: Literal["adamw", "adam", "sgd", "momentum", "plain", "rmsprop"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    bias_lr: float = Field(1.0, gt=0)  # times the learning rate, of biases but batch norm's
    dense_lr: float = Field(1.0, gt=0)  # of dense layers but those of LSTMs and squeeze-excites
    schedule: Literal["cosine", "step"] = "cosine"  # after the warm-up
    lr_steps: tuple[Annotated[int, Field(ge=1)], ...] = ()  # epochs at which it is multiplied by
    lr_decay: float = Field(0.1, gt=0, lt=1)
    warmup: float = Field(0.1, ge=0, lt=1)  # share of all steps
    weight_decay: float = Field(0.02, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    clip_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.0, ge=0, lt=1)  # 0: off
    norm_momentum: float = Field(0.01, gt=0, le=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.model is None and self.init is None and self.stage != "head":
            raise ValueError("say which model to train: a model name or a checkpoint to start from")
        if self.crop_scale[1] > 1:
            raise ValueError(f"a crop cannot have more than all of the area ({self.crop_scale[1]})")
        if self.frames % self.subclips:
            raise ValueError(f"{self.frames} frames cannot be cut into {self.subclips} sub-clips")
        if self.lr_steps and self.schedule != "step":
            raise ValueError("lr_steps needs schedule step")
        if self.head not in HEADS:
            raise ValueError(f"there is no head {self.head!r}; choose {', '.join(HEADS)}")
        if self.stage in ("lofi", "head") and self.qat:
            raise ValueError("int8 is not simulated in localization; leave out qat")
        if self.qat and self.init is None:
            raise ValueError("qat fine-tunes a trained checkpoint; say which with init")
        if self.range_penalty and not (self.qat and self.spread):
            raise ValueError("range_penalty needs qat and a spread")
        return self

    def changes_from(self, other: Recipe) -> list[str]:
        """The fields in which two recipes differ, as ``lr 0.001 -> 0.01``."""
        mine, theirs = self.model_dump(), other.model_dump()
        return [f"{k} {theirs[k]} -> {v}" for k, v in mine.items() if v != theirs[k]]


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the project."""
    folder = resources.files("movinet_edge.train") / FOLDER
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def read_recipe(source: str | None, changes: Mapping[str, Any]) -> Recipe:
    """A shipped recipe by name, a TOML file, or (None) the defaults; with `changes` on top.

    Raises:
        BadInput: unknown recipe, damaged file, unknown or impossible values.
    """
    fields = _read_toml(source) if source is not None else {}
    return make_recipe(fields | dict(changes))


def _read_toml(source: str, below: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a recipe, on top of those of the recipe it ``extends``."""
    if source in below:
        raise BadInput(f"the recipe {source} extends itself")
    try:
        if source in shipped_recipes():
            text = (resources.files("movinet_edge.train") / FOLDER / f"{source}.toml").read_text()
        elif Path(source).is_file():
            text = Path(source).read_text("utf-8")
        else:
            names = ", ".join(shipped_recipes())
            raise BadInput(f"there is no recipe {source}; name a .toml file or one of {names}")
        fields = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{source} is no readable TOML file ({error})") from None
    base = fields.pop("extends", None)
    if base is None:
        return fields
    beside = Path(source).parent / str(base)
    name = str(beside) if beside.is_file() else str(base)
    return _read_toml(name, (*below, source)) | fields


def make_recipe(fields: Mapping[str, Any]) -> Recipe:
    """A recipe from its fields.

    Raises:
        BadInput: unknown or impossible values.
    """
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"no such field; there are {', '.join(Recipe.model_fields)}"
        raise BadInput(f"bad recipe: {place + ': ' if place else ''}{message}") from None
