"""Training localizers: encoder and head together at reduced fidelity, or a head on features."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from movinet_edge.bundle import Preprocessing
from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.data.annotations import AnnotationSet
from movinet_edge.data.augment import Augment
from movinet_edge.data.cache import FrameCache
from movinet_edge.data.clips import loader
from movinet_edge.data.features import FeatureFolder
from movinet_edge.data.localization import (
    FeatureVideos,
    LocalizationBatch,
    SnippetVideos,
    Together,
)
from movinet_edge.data.snippets import VideoFolder
from movinet_edge.errors import BadInput
from movinet_edge.localization.conventions import convention_of
from movinet_edge.models.encoder import Encoder
from movinet_edge.models.encoder_deploy import DENSE
from movinet_edge.models.gtad import LocalizationScores
from movinet_edge.models.gtad_table import gtad_arch
from movinet_edge.models.localizer import Localizer
from movinet_edge.models.localizer_table import localizer_arch
from movinet_edge.models.registry import build, default_preprocessing, named_arch
from movinet_edge.train.batches import Batches
from movinet_edge.train.fidelity import Fidelity, planned, turn
from movinet_edge.train.localization_eval import (
    Finder,
    LocalizationRecord,
    Source,
    evaluate_localizer,
)
from movinet_edge.train.localization_loss import localization_loss, segment_loss
from movinet_edge.train.loop import Loop, TrainOptions
from movinet_edge.train.parallel import World
from movinet_edge.train.recipe import Recipe
from movinet_edge.train.run_folder import RunFolder
from movinet_edge.train.trainer import augmentation
from movinet_edge.train.transfer import trained_contract


def localizer_start(
    recipe: Recipe, labels: tuple[str, ...], width: int | None = None
) -> Checkpoint:
    """A localizer with a fresh head, and the encoder that the recipe names or begins with.

    Args:
        width: of features, where there need be no encoder.

    Raises:
        BadInput: unknown or unreadable, no encoder, or one that gives other features.
    """
    encoder, contract = _encoder(recipe)
    changes: dict[str, object] = {"features": width} if encoder is None and width else {}
    fields = ("snippets", "durations")
    changes |= {f: v for f in fields if (v := getattr(recipe, f)) is not None}
    if recipe.snippets is not None and recipe.durations is None:
        usual = gtad_arch(recipe.head)
        changes["durations"] = round(usual.durations * recipe.snippets / usual.snippets)
    try:
        head = gtad_arch(recipe.head, **changes)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInput(f"bad recipe: the head {recipe.head}: {message}") from None
    # Without weight in the loss a classifier would be noise.
    known = list(labels) if recipe.segment_weight else None
    arch = localizer_arch(head, encoder and encoder.arch, len(known or ()))  # type: ignore[arg-type]
    if width is not None and arch.head.features != width:
        raise BadInput(
            f"the features have {width} values per snippet, {arch.name} takes "
            f"{arch.head.features}; extract them with its encoder"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build(arch)
    assert isinstance(model, Localizer)
    if encoder is not None:
        assert model.encoder is not None
        model.encoder.load_state_dict(encoder.state_dict())
    return Checkpoint(model, contract or default_preprocessing(arch), known)


def fidelities(recipe: Recipe, start: Checkpoint) -> tuple[Fidelity, ...]:
    """What the run goes through in stage lofi.

    Raises:
        BadInput: as `planned`.
    """
    assert isinstance(start.model, Localizer)
    full = start.model.arch.head.snippets, start.preprocessing.width
    return planned(recipe.config, recipe.reduction, *full)


def _encoder(recipe: Recipe) -> tuple[Encoder | None, Preprocessing | None]:
    """What the run begins with, of the size that the recipe trains at."""
    if recipe.init is None:
        if recipe.model is None:
            return None, None
        arch = named_arch(recipe.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model: nn.Module = build(arch)
        contract = default_preprocessing(arch)
    else:
        source = read_checkpoint(Path(recipe.init))
        model, contract = source.model, source.preprocessing
    if isinstance(model, Localizer):
        if model.encoder is None:
            raise BadInput(f"{recipe.init} has no encoder; name a checkpoint of one")
        model = model.encoder
    if not isinstance(model, Encoder):
        what = recipe.init or recipe.model
        raise BadInput(f"{what} gives no vectors of snippets; take a TSM, R(2+1)D or MoViNet")
    side = recipe.size or contract.height
    if model.arch.resolution != side:
        model.arch = model.arch.model_copy(update={"resolution": side})
    return model, trained_contract(contract, recipe, side)


class Scoring(nn.Module):
    """What a step calls: snippets [B, T, F, 3, H, W] or features [B, C, T] to all that is learnt.

    Logits are those of every place, where the localizer knows classes.
    """

    def __init__(self, model: Localizer):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[LocalizationScores, Tensor | None]:
        features = self.model.encode(x) if x.dim() == 6 else x
        known = self.model.classify is not None
        return self.model.find(features), self.model.place_logits(features) if known else None


class TurnedBatches(Batches):
    """Batches whose examples say which fidelity they have (see `SnippetVideos`)."""

    config = ""

    def __iter__(self) -> Iterator[list[int]]:
        for number, batch in enumerate(super().__iter__(), self.start):
            chosen = turn(self.config, self.epoch, number, len(self))
            yield [index + chosen * self.videos for index in batch]


class LocalizationTrainer(Loop[LocalizationBatch]):
    """A run of stage lofi (`videos`) or head (`features`) in progress.

    Args:
        start: of `localizer_start`.
        val: what it validates by, and where their features come from.
    """

    def __init__(
        self,
        recipe: Recipe,
        start: Checkpoint,
        train: AnnotationSet,
        videos: VideoFolder | FeatureFolder,
        val: tuple[AnnotationSet, Callable[[Localizer], Source]] | None,
        folder: RunFolder,
        world: World,
        options: TrainOptions,
        say: Callable[[str], None] | None = None,
    ):
        model = start.model
        assert isinstance(model, Localizer)
        self.arch, self.val = model.arch, val
        self.convention = convention_of(self.arch.head.label)
        contract, full = start.preprocessing, self.arch.head.snippets
        self.examples: SnippetVideos | FeatureVideos
        self.augments: list[Augment] = []
        if isinstance(videos, VideoFolder):
            self.plan = fidelities(recipe, start)
            self.augments = [
                Augment(augmentation(recipe, f.side(contract.height))) for f in self.plan
            ]
            self.examples = SnippetVideos(
                train,
                videos,
                [f.snippets(full) for f in self.plan],
                self.arch.clip_frames,
                contract.frame_rate,
                recipe.short_side or round(contract.height * 1.12),
                recipe.seed,
                FrameCache(options.cache) if options.cache else None,
            )
        else:
            self.examples = FeatureVideos(train, videos, full, self.convention.windowed)
        batches = TurnedBatches(len(self.examples), recipe.batch, world, recipe.seed)
        batches.config = recipe.config if self.augments else ""
        self.together = Together(self.arch.head.anchors, self.convention)
        data = _fingerprint(train)
        super().__init__(recipe, start, data, batches, folder, world, options, say)

    def _build(self) -> None:
        model = self.start.model
        assert isinstance(model, Localizer)
        still(model, seen=bool(self.augments))
        super()._build()

    def _trained(self, model: nn.Module) -> nn.Module:
        assert isinstance(model, Localizer)
        return Scoring(model)

    def _load(self, epoch: int, start: int) -> Iterable[LocalizationBatch]:
        self.examples.set_epoch(epoch)
        self.batches.epoch, self.batches.start = epoch, start
        options: dict[str, Any] = {"batch_sampler": self.batches, "collate_fn": self.together}
        options["pin_memory"] = self.world.device.type == "cuda"
        # Features are read faster than they are sent between processes.
        workers = self.options.workers if self.augments else 0
        return loader(self.examples, workers, **options)  # type: ignore[arg-type]

    def _learn(self, batch: LocalizationBatch) -> Tensor:
        device, answers = self.world.device, batch.answers.to(self.world.device)
        if self.augments:
            frames = self.augments[batch.number](batch.clips, device)
            x = frames.unflatten(1, (batch.snippets, -1))
        else:
            x = torch.stack(batch.clips.frames).to(device)
        with self._autocast():
            scores, logits = self.model(x)
        parts = (answers.overlap, answers.start, answers.end)
        loss = localization_loss(scores, *parts, self.convention).total
        if logits is not None:
            own = segment_loss(logits, answers.actions, self.recipe.label_smoothing)
            loss = loss + self.recipe.segment_weight * own
        self.scaler.scale(loss).backward()
        return loss.detach()

    @property
    def validates(self) -> bool:
        return self.val is not None

    def _validate(self, checkpoint: Checkpoint) -> LocalizationRecord | None:
        """On the held-out videos; stage lofi sees them at the first of its fidelities."""
        if self.val is None:
            return None
        annotations, source = self.val
        model = checkpoint.model.to(self.world.device).eval()
        assert isinstance(model, Localizer)
        snippets = self.arch.head.snippets
        if self.augments:
            snippets = self.plan[0].snippets(snippets)
        facts = {"model": self.arch.name, "engine": "torch", "split": "val", "snippets": snippets}
        return evaluate_localizer(Finder(model, snippets), annotations, source(model), facts)


def still(model: Localizer, seen: bool) -> None:
    """Take out of training what a stage does not use: the encoder's answers or all of it."""
    if model.encoder is not None:
        model.encoder.requires_grad_(seen)
        for name, module in model.encoder.named_modules():
            if name in DENSE:
                module.requires_grad_(False)


def _fingerprint(annotations: AnnotationSet) -> str:
    """A hash of which videos and actions there are, wherever the videos lie."""
    digest = hashlib.sha256("\n".join(annotations.labels).encode())
    for video in annotations.videos:
        digest.update(f"\n{video.model_dump_json()}".encode())
    return digest.hexdigest()
