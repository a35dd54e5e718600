"""What is optimised and how fast: groups of parameters, schedules, averaged weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from movinet_edge.errors import BadInput
from movinet_edge.models.arnet import ArNet
from movinet_edge.models.arnet_table import arnet_arch
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import seeded_model
from movinet_edge.train.optim import averaged, make_schedule, parameter_groups
from movinet_edge.train.recipe import Recipe, make_recipe


def rates_of(recipe: Recipe, steps: int) -> list[float]:
    """The learning rate of every step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], recipe.lr)
    schedule = make_schedule(optimizer, recipe, steps)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def test_groups_cover_every_parameter_once_and_decay_weights_only() -> None:
    model = seeded_model(published_arch("a0", True, classes=3, hidden=16))
    recipe = make_recipe({"model": "a0-stream", "layer_decay": 0.5, "lr": 0.1})
    groups = parameter_groups(model, recipe)
    listed = [p for group in groups for p in group["params"]]
    assert len(listed) == len({id(p) for p in listed}) == len(list(model.parameters()))
    assert all(p.dim() > 1 for g in groups if g["weight_decay"] for p in g["params"])
    assert max(g["lr"] for g in groups) == 0.1  # the head's
    assert min(g["lr"] for g in groups) == 0.1 * 0.5**6  # the stem's


def test_schedule_warms_up_and_ends_at_zero() -> None:
    recipe = make_recipe({"model": "a0-stream", "lr": 1.0, "warmup": 0.25})
    rates = rates_of(recipe, 100)
    assert rates[0] < 0.1
    assert max(rates) == rates[25] == 1.0
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[-1] < 0.01


def test_the_schedule_by_steps() -> None:
    """A tenth at each of the epochs, as in the public code of AR-Net; no warm-up."""
    steps = {"schedule": "step", "lr_steps": [2, 4], "warmup": 0}
    recipe = make_recipe({"model": "a0-stream", "lr": 1.0, "epochs": 5, **steps})
    rates = rates_of(recipe, 15)
    assert rates == pytest.approx([1.0] * 6 + [0.1] * 6 + [0.01] * 3)
    with pytest.raises(BadInput, match="bad recipe: lr_steps needs schedule step"):
        make_recipe({"model": "a0-stream", "lr_steps": [2]})


def test_rates_of_biases_and_dense_layers() -> None:
    """AR-Net's: biases twice, dense layers five times; not in LSTM, squeeze-excite and norms."""
    with torch.device("meta"):
        model = ArNet(arnet_arch("efficientnet"))
    published = {"bias_lr": 2, "dense_lr": 5, "lr": 0.1, "weight_decay": 1e-4}
    groups = parameter_groups(model, make_recipe({"model": "arnet-efficientnet", **published}))
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    wanted = {
        "policy.act.weight": (0.5, 1e-4),
        "policy.act.bias": (1.0, 0),
        "backbones.1.classify.weight": (0.5, 1e-4),
        "backbones.1.classify.bias": (1.0, 0),
        "policy.cell.input.weight": (0.1, 1e-4),
        "policy.cell.recurrent.bias": (0.2, 0),
        "policy.net.stem.conv.weight": (0.1, 1e-4),
        "policy.net.stem.norm.bias": (0.1, 0),
        "backbones.0.net.stages.0.0.se.reduce.weight": (0.1, 1e-4),
        "backbones.0.net.stages.0.0.se.reduce.bias": (0.2, 0),
    }
    parameters = dict(model.named_parameters())
    for name, rates in wanted.items():
        assert found[id(parameters[name])] == pytest.approx(rates), name
    assert len(found) == len(parameters)


def test_averaged_weights_follow_the_model() -> None:
    model = nn.Linear(2, 2)
    ema = averaged(model, 0.9)
    ema.update_parameters(model)  # the first one is a copy
    before = ema.module.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    ema.update_parameters(model)
    kept = (1 + 1) / (10 + 1)  # the decay grows with the number of updates
    torch.testing.assert_close(ema.module.weight - before, torch.full((2, 2), 1 - kept))
