"""The model that training starts from: fresh, or another checkpoint with a new head."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from movinet_edge.bundle import Preprocessing
from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.models.registry import build, default_preprocessing, named_arch
from movinet_edge.train.backbones import read_parts
from movinet_edge.train.recipe import Recipe

ANSWER = re.compile(r"(?:^|\.)classify\.")  # in the names of last dense layers


def starting_point(recipe: Recipe, labels: Sequence[str], multi_label: bool = False) -> Checkpoint:
    """A model for `labels` with the contract it will be trained under.

    From `recipe.init` everything is taken over but the last dense layer, and that too where the
    class names are the same, in whatever order. `recipe.init_backbone` wins over that.

    Raises:
        BadInput: unknown model, unreadable checkpoint, or one that holds another model than the
            recipe names.
    """
    source = read_checkpoint(Path(recipe.init)) if recipe.init is not None else None
    arch = source.arch if source is not None else named_arch(recipe.model or "")
    if recipe.model is not None and arch.name != (wanted := named_arch(recipe.model).name):
        raise BadInput(f"{recipe.init} holds a {arch.name}, not a {wanted}; leave out the model")
    contract = source.preprocessing if source is not None else default_preprocessing(arch)
    side = recipe.size or contract.height
    changes: dict[str, object] = {"multi_label": multi_label}
    for field in ("hidden", "dropout", "drop_path"):
        if (value := getattr(recipe, field)) is None:
            continue
        if field not in type(arch).model_fields:
            raise BadInput(f"{arch.name} has no {field}; leave it out of the recipe")
        changes[field] = value
    hidden = getattr(arch, "hidden", None)
    if source is not None and changes.get("hidden", hidden) != hidden:
        raise BadInput(f"{recipe.init} has a hidden layer of {hidden}; --set hidden={hidden}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        arch = arch.resized(len(labels), side, recipe.frames)
        parts = read_parts(arch.model_copy(update=changes), recipe.init_backbone, labels)
        model = build(parts.arch)
    if recipe.residual_scale is not None:
        model.start_residuals(recipe.residual_scale)
    if source is not None:
        weights = source.model.state_dict()
        known = source.labels or []
        if set(known) == set(labels):
            order = [known.index(label) for label in labels]
            weights |= {k: v[order] for k, v in weights.items() if ANSWER.search(k)}
        else:
            weights = {k: v for k, v in weights.items() if not ANSWER.search(k)}
        model.load_state_dict(weights, strict=False)
    model.load_state_dict(parts.weights, strict=False)
    return Checkpoint(model, trained_contract(contract, recipe, side), list(labels))


def trained_contract(contract: Preprocessing, recipe: Recipe, side: int) -> Preprocessing:
    """The contract of a model that is trained on frames of `side` pixels, at the recipe's rate."""
    rate = recipe.frame_rate or contract.frame_rate
    return contract.model_copy(update={"height": side, "width": side, "frame_rate": rate})
