"""Training and evaluation of AR-Net: losses, temperatures, three stages, baselines, usage."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movinet_edge.checkpoints.native import Checkpoint, load_checkpoint, save_checkpoint
from movinet_edge.data.listing import VideoSet, read_video_set
from movinet_edge.data.motion import encode
from movinet_edge.data.sampling import SAMPLINGS
from movinet_edge.data.sources import read_source
from movinet_edge.errors import BadInput
from movinet_edge.models.arnet import DECISIONS, ArNet
from movinet_edge.models.arnet_cost import published_costs, true_costs
from movinet_edge.models.arnet_table import ArNetArch, arnet_arch
from movinet_edge.models.registry import build, default_preprocessing
from movinet_edge.train.adaptive import Adaptive, adaptive, scaled, unevenness
from movinet_edge.train.adaptive_eval import AdaptivePredictor
from movinet_edge.train.evaluate import EvalOptions, evaluate_model
from movinet_edge.train.loop import TrainOptions
from movinet_edge.train.parallel import World
from movinet_edge.train.protocols import EvalProtocol, uniform
from movinet_edge.train.recipe import make_recipe
from movinet_edge.train.run_folder import BEST, RunFolder, RunRecord
from movinet_edge.train.trainer import Trainer
from movinet_edge.train.transfer import starting_point
from tests.bundles import clip
from tests.commands import Refused
from tests.test_arnet import SIDE, tiny

LABELS = ["a", "b"]
RECIPE: dict[str, Any] = {
    "frames": 4,
    "frame_rate": 5.0,
    "batch": 4,
    "epochs": 1,
    "lr": 1e-3,
    "flip": False,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark videos, eight frames each."""
    root = tmp_path_factory.mktemp("videos")
    for number, label in enumerate(LABELS):
        (root / label).mkdir()
        for seed in range(4):
            frames = clip(8, SIDE, SIDE, seed) // 2 + 120 * number
            encode(np.repeat(frames, 4, 0), root / label / f"{seed}.mp4", crf=20)  # 20 per second
    return root


def videos(data: Path) -> VideoSet:
    return read_video_set(read_source(data), None)


def saved(arch: ArNetArch, path: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(Checkpoint(build(arch), default_preprocessing(arch), None), path)
    return path


def trainer(data: Path, folder: Path, val: VideoSet | None = None, **fields: Any) -> Trainer:
    """A run of one epoch that is to begin."""
    recipe = make_recipe(RECIPE | fields)
    place = RunFolder(folder)
    place.begin(RunRecord(recipe=recipe, data=str(data)))
    world = World(0, 1, torch.device("cpu"))
    return Trainer(recipe, videos(data), val, place, world, TrainOptions(log_every=1))


def run(data: Path, folder: Path, **fields: Any) -> ArNet:
    """What a run of one epoch wrote as the best."""
    trainer(data, folder, **fields).run(lambda _: None)
    model = load_checkpoint(folder / BEST).model
    assert isinstance(model, ArNet)
    return model


def test_three_stages(data: Path, tmp_path: Path) -> None:
    """Each backbone alone, joined with the policy, fine-tuned with the policy as it is."""
    arch = tiny(classes=2, dropout=0.2, rate=5.0)
    places = []
    for k in range(2):
        start = saved(arch.alone(k), tmp_path / f"{k}.safetensors")
        alone = run(data, tmp_path / f"stage1-{k}", init=str(start))
        assert alone.policy is None
        places.append(f"{k}={tmp_path / f'stage1-{k}' / BEST}")
    start = saved(arch, tmp_path / "joint.safetensors")
    fields = {"init": str(start), "init_backbone": places}
    begun = starting_point(make_recipe(RECIPE | fields), LABELS).model
    for name, value in load_checkpoint(tmp_path / "stage1-1" / BEST).model.state_dict().items():
        ours = name.replace("backbones.0.", "backbones.1.")
        assert torch.equal(begun.state_dict()[ours], value), (
            ours
        )  # the classifier is taken over too
    joint = run(data, tmp_path / "stage2", **fields, dearest=4.09)
    before = {k: v.clone() for k, v in joint.state_dict().items()}
    assert any(not torch.equal(begun.state_dict()[k], v) for k, v in before.items() if "act" in k)
    tuned = run(
        data,
        tmp_path / "stage3",
        init=str(tmp_path / "stage2" / BEST),
        freeze=["policy"],
        temperature=0.63,
    )
    for name, value in tuned.state_dict().items():
        frozen = name.startswith("policy.") and "tracked" not in name
        assert torch.equal(value, before[name]) == frozen or "tracked" in name, name


def test_a_policy_trained_alone_is_taken_over(tmp_path: Path) -> None:
    """Its LSTM and its own answers, too; a backbone's are of no use to it."""
    arch = tiny(classes=2)
    lite = next(b for b in arch.baselines() if b.name.endswith("-lite"))
    alone = saved(lite, tmp_path / "lite.safetensors")
    start = saved(arch, tmp_path / "start.safetensors")

    def begun(*places: str) -> dict[str, torch.Tensor]:
        fields = {"init": str(start), "init_backbone": places}
        return starting_point(make_recipe(fields), LABELS).model.state_dict()

    found, held = begun(f"policy={alone}"), load_checkpoint(alone).model.state_dict()
    taken = [name for name in held if "classify" not in name]  # it has no class names
    assert "policy.cell.recurrent.weight" in taken
    assert all(torch.equal(found[name], held[name]) for name in taken)
    wider = saved(lite.model_copy(update={"hidden": 2 * lite.hidden}), tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=f"has an LSTM of {2 * lite.hidden}.*--set hidden="):
        begun(f"policy={wider}")


@pytest.mark.parametrize("name", ["random", "multi-scale", "lstm", "lite", "scale"])
def test_baselines_train(data: Path, tmp_path: Path, name: str) -> None:
    """The same command with another model, and evaluation counts what each of them does."""
    arch = next(b for b in tiny(classes=2, rate=5.0).baselines() if name in b.name)
    model = run(data, tmp_path / "run", init=str(saved(arch, tmp_path / "c.safetensors")))
    record = evaluate_model(
        model.eval(),
        default_preprocessing(model.arch),
        videos(data),
        EvalProtocol("stream"),
        options=EvalOptions(memory=False),
    )
    costs = true_costs(model.arch)
    everything = sum(costs.networks.values())
    if name == "random":
        assert record.usage is not None
        looks = sum(u * c for u, c in zip(record.usage.values(), costs.looks(arch), strict=True))
        per_frame = looks + costs.networks["policy"]
    else:
        assert record.usage is None
        per_frame = everything
    assert record.macs_per_video == pytest.approx(8 * per_frame * 1e9, rel=1e-6)
    assert record.gflops_per_frame is not None


def test_losses_by_hand() -> None:
    """The published terms and weights on decisions that are written down."""
    arch = arnet_arch("resnet", classes=2)
    with torch.device("meta"):
        model = ArNet(arch)
    terms = Adaptive(model, make_recipe({"model": "arnet-resnet"}))
    numbers = torch.tensor([[0, 1, 2, 3], [0, 4, 6, 6]])
    decisions = torch.nn.functional.one_hot(numbers, 7).float()
    usage = np.array([2, 1, 1, 1, 1, 0, 2]) / 8
    cost = usage[0] * 4.0875 + usage[1] * 2.2445 + usage[2] * 0.4850
    uneven = math.sqrt(float(((usage - 1 / 7) ** 2).sum()))
    expected = 0.05 * (cost + 3.0 * uneven)
    assert float(terms.loss({DECISIONS: decisions})) == pytest.approx(expected, abs=1e-5)
    assert float(unevenness(torch.full((7,), 1 / 7))) == pytest.approx(0, abs=1e-7)
    assert terms.recipe.class_weight == 0.95


def test_costs_in_another_unit_weigh_the_same(tmp_path: Path) -> None:
    arch = arnet_arch("phone")
    looks = true_costs(arch).looks(arch)
    assert max(scaled(looks, 4.09)) == pytest.approx(4.09)
    assert scaled(looks, None) == looks
    with torch.device("meta"):
        model = ArNet(arch)
    path = tmp_path / "ms.json"
    networks = {"policy": 1.0, "phone-m@80": 20.0, "phone-s@60": 10.0, "phone-xs@40": 5.0}
    path.write_text(json.dumps({"unit": "ms", "networks": networks}))
    recipe = make_recipe({"model": "arnet-phone", "costs": str(path), "dearest": 4.0})
    assert Adaptive(model, recipe).costs == (4, 2, 1, 0, 0, 0, 0)
    path.write_text(json.dumps({"unit": "ms", "networks": {"policy": 1.0}}))
    with pytest.raises(BadInput, match="the cost table has no phone-m@80"):
        Adaptive(model, recipe)
    with torch.device("meta"):
        single = ArNet(arch.alone(0))
    with pytest.raises(BadInput, match="arnet-phone-scale-80 has nothing to decide"):
        adaptive(single, recipe)


def test_the_temperature_falls() -> None:
    """5 exp(-0.045 epoch), a function of the epoch alone, as runs that are resumed need."""
    with torch.device("meta"):
        model = ArNet(arnet_arch("phone"))
    terms = Adaptive(model, make_recipe({"model": "arnet-phone"}))
    for epoch in (46, 0, 10):
        terms.begin(epoch)
        assert model.temperature == pytest.approx(5 * math.exp(-0.045 * epoch))
    terms.begin(46)
    assert model.temperature == pytest.approx(0.6309, abs=1e-4)  # where stage 3 went on


def test_the_cost_of_decisions_is_learned(data: Path, tmp_path: Path) -> None:
    """With nothing but the cost in the loss, usage moves to what is cheap."""
    arch = tiny(classes=2, dropout=0, rate=5.0)
    start = saved(arch, tmp_path / "c.safetensors")
    weights = {"cost_weight": 20.0, "uniform_weight": 0.0, "class_weight": 1e-6, "dearest": 4.0}
    fields = {"init": str(start), "epochs": 12, "lr": 0.02, "warmup": 0, **weights}
    model = run(data, tmp_path / "run", **fields).eval()
    x = torch.from_numpy(clip(16, SIDE, SIDE, 1)).permute(0, 3, 1, 2)[None] / 255
    with torch.inference_mode():
        usage = model.decide(x).decisions[0].mean(0)
    assert usage[:2].sum() == 0


def test_usage_and_costs_of_an_evaluation(data: Path) -> None:
    """Counted by hand from the decisions; both accountings; the dial makes it cheaper."""
    arch = tiny(classes=2, rate=5.0)
    torch.manual_seed(1)
    model = build(arch)
    assert isinstance(model, ArNet)
    assert model.policy is not None
    assert model.policy.act is not None
    torch.nn.init.normal_(model.policy.act.weight, std=3.0)
    found = videos(data)
    contract = default_preprocessing(arch)
    options = EvalOptions(memory=False, time=True)
    record = evaluate_model(model, contract, found, EvalProtocol("stream"), options=options)
    assert record.usage is not None
    assert sum(record.usage.values()) == pytest.approx(1)
    costs = true_costs(arch)
    expected = costs.frame_cost(arch, list(record.usage.values()))
    # A skip that the end cuts off has run the policy once, and counts for its frames only.
    assert record.macs_per_video == pytest.approx(8e9 * expected, rel=0.1)
    assert record.macs_per_video >= 7.99e9 * expected
    published = published_costs(arch).frame_cost(arch, list(record.usage.values()))
    assert record.gflops_per_frame == pytest.approx(published, abs=1e-6)
    assert record.ms_per_frame is not None
    assert record.ms_per_frame > 0
    cheap = AdaptivePredictor(
        model, (SIDE, SIDE), EvalProtocol("stream"), torch.device("cpu"), cost_bias=1e6
    )
    cheap.predict(torch.rand(8, 3, SIDE, SIDE))
    assert cheap.taken == dict.fromkeys([a.name for a in arch.actions], 0) | {"skip 4": 8}
    assert cheap.macs(8) == pytest.approx(2e9 * costs.networks["policy"], rel=1e-6)


def test_uniform_frames() -> None:
    """Frame int(tick / 2 + tick * i), and of short videos the last one again."""
    assert uniform(160, 16) == [5 + 10 * i for i in range(16)]
    assert uniform(40, 16) == [int(1.25 + 2.5 * i) for i in range(16)]
    assert uniform(3, 5) == [0, 1, 2, 2, 2]
    assert EvalProtocol("uniform", 4).windows(8) == [[1, 3, 5, 7]]


def test_frames_all_over_the_video(data: Path, tmp_path: Path) -> None:
    """Clips and the validation of a run have a frame of each part of the video, as published."""
    start = saved(tiny(classes=2, rate=5.0), tmp_path / "c.safetensors")
    for sampling, protocol, frames in (("stream", "stream", None), ("uniform", "uniform", 4)):
        fields = {"init": str(start), "sampling": sampling}
        begun = trainer(data, tmp_path / sampling, videos(data), **fields)
        assert begun.clips.sampling == SAMPLINGS[sampling](4, Fraction(5))
        record = begun.run(lambda _: None)
        assert record is not None
        assert (record.protocol, record.frames) == (protocol, frames)


def test_a_cost_table_that_lacks_an_action(data: Path, tmp_path: Path, refused: Refused) -> None:
    start = saved(tiny(classes=2, rate=5.0), tmp_path / "c.safetensors")
    table = tmp_path / "ms.json"
    table.write_text('{"unit": "ms", "networks": {"policy": 1, "nano@48": 9}}')
    words = ["--init", start, "--data", data, "--out", tmp_path / "run", "--device", "cpu"]
    sentence = refused("train", *words, "--set", f"costs={table}")
    assert "the cost table has no nano@32; it needs policy, nano@48, nano@32" in sentence
    assert not (tmp_path / "run").exists()


def test_parts_that_do_not_fit(tmp_path: Path) -> None:
    arch = tiny(classes=2)
    other = tiny(classes=2, backbones=(arnet_arch("phone").backbones[2],))
    paths = {
        "whole": saved(arch, tmp_path / "whole.safetensors"),
        "other": saved(other.alone(0), tmp_path / "other.safetensors"),
    }
    torch.save({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(2)}, tmp_path / "r.pth")
    start = saved(arch, tmp_path / "start.safetensors")
    for text, reason in (
        ("5=x", "--init-backbone takes PLACE=FILE with policy, 0, 1, not 5=x"),
        ("policy", "--init-backbone takes PLACE=FILE with policy, 0, 1, not policy"),
        ("0=absent.pth", "there is no checkpoint at"),
        (f"0={paths['whole']}", "holds a arnet-custom, not one network alone"),
        (f"0={paths['other']}", "holds a phone-xs, and nano is wanted"),
        (f"0={tmp_path / 'r.pth'}", "does not hold a nano (missing: "),
    ):
        with pytest.raises(BadInput) as caught:
            starting_point(make_recipe({"init": str(start), "init_backbone": [text]}), LABELS)
        assert reason in str(caught.value)
    with pytest.raises(BadInput, match="movinet-a0-stream is not put together from backbones"):
        starting_point(make_recipe({"model": "a0-stream", "init_backbone": ["0=x"]}), LABELS)
