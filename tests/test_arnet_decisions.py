"""What a bundle of AR-Net decides and what it costs: the dial, chance, tables, usage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.plans import make_plan
from movinet_edge.models.arnet import ArNet
from movinet_edge.models.arnet_cost import CostTable, read_costs, true_costs
from movinet_edge.models.arnet_table import ArNetArch
from movinet_edge.models.backbone_table import Backbone
from movinet_edge.models.registry import default_preprocessing, deploy_parts
from movinet_edge.runtime import Stream
from movinet_edge.runtime.choice import decided
from movinet_edge.train.adaptive_eval import bundle_predictor, torch_predictor
from movinet_edge.train.protocols import EvalProtocol
from tests.arnets import actions_of, checkpoint, frames
from tests.bundles import clip, edited
from tests.commands import Command, Refused
from tests.test_arnet import SIDE, tiny
from tests.videos import encode_video


def test_the_dial(arnet_bundle: Path, arnet: Checkpoint) -> None:
    """The dearer the cost, the cheaper the stream; and PyTorch takes the same decisions."""
    assert isinstance(arnet.arch, ArNetArch)
    cost = true_costs(arnet.arch).per_frame(arnet.arch)
    names = [action.name for action in arnet.arch.actions]
    x = torch.from_numpy(frames()).permute(0, 3, 1, 2)[None] / 255
    spent = []
    for bias in (-1e4, 0.0, 1e3, 1e7):
        with Stream(arnet_bundle, "onnxruntime", cost_bias=bias) as stream:
            taken = actions_of(stream, frames())
        assert isinstance(arnet.model, ArNet)
        with torch.inference_mode():
            done = arnet.model.decide(x, bias=bias * torch.tensor(cost))
        assert taken == [names[k] for k in done.decisions[0].argmax(1).tolist()]
        spent.append(sum(cost[names.index(name)] for name in taken))
    assert spent[0] > spent[1] > spent[2] >= spent[3]


def test_drawn_actions(arnet_bundle: Path) -> None:
    """By a seed: the same again, others for another seed; not those without."""
    runs = []
    for seed in (None, 0, 0, 1):
        with Stream(arnet_bundle, "onnxruntime", sample=seed) as stream:
            first = actions_of(stream, frames())
            stream.reset()
            assert actions_of(stream, frames()) == first
            runs.append(first)
    assert runs[1] == runs[2]
    assert runs[1] != runs[3]
    assert runs[1] != runs[0]


def test_when_there_is_a_decision() -> None:
    skips = [0, 0, 1, 2, 4]
    numbers = [0, 3, 3, 2, 4, 4, 4, 4, 1]
    expected = [True, True, False, True, True, False, False, False, True]
    assert decided(numbers, skips) == expected


def deciding_nothing(manifest: dict[str, Any]) -> None:
    del manifest["plan"]["choice"]
    for step in manifest["plan"]["steps"]:
        step.pop("when", None)


def test_options_that_do_not_go_together(
    arnet_bundle: Path, arnet: Checkpoint, tmp_path: Path, refused: Refused
) -> None:
    everything = edited(arnet_bundle, tmp_path / "everything", deciding_nothing)
    video = tmp_path / "v.mp4"
    encode_video(video, clip(8, SIDE, SIDE), 1)
    data = tmp_path / "data"
    for name in ("one", "two"):
        (data / name).mkdir(parents=True)
        shutil.copy(video, data / name)
    assert "decides nothing; leave out --cost-bias" in refused(
        "run", everything, video, "--cost-bias", "1"
    )
    assert "unable to parse string as a number" in refused(
        "run", arnet_bundle, video, "--cost-bias", "much"
    )
    assert "the cost bias is a number, not nan" in refused(
        "run", arnet_bundle, video, "--cost-bias=nan"
    )
    assert "at most 1e+20 either way" in refused("run", arnet_bundle, video, "--cost-bias=1e39")
    save_checkpoint(arnet, tmp_path / "c.safetensors")
    for source in (arnet_bundle, tmp_path / "c.safetensors"):
        assert "the cost bias is a number, not inf" in refused(
            "evaluate", source, "--data", data, "--cost-bias=inf"
        )
        assert "unable to parse string as a number" in refused(
            "evaluate", source, "--data", data, "--cost-bias", "much"
        )
    assert "decides inside its PyTorch model" in refused(
        "run", arnet_bundle, video, "--cost-bias=1", "--backend=torch"
    )
    costs = tmp_path / "costs.json"
    costs.write_text('{"unit": "ms", "networks": {"policy": 1}}')
    assert "the cost table has no nano@48" in refused(
        "export", tmp_path / "c.safetensors", "--out", tmp_path / "o", "--costs", costs
    )
    small = default_preprocessing(arnet.arch).model_copy(update={"height": 32, "width": 32})
    with pytest.raises(BadInput, match="frames have 32; leave out the size"):
        export(Checkpoint(arnet.model, small), tmp_path / "o", ExportOptions(("onnx",)))
    with pytest.raises(BadInput, match="is a baseline to compare with and has no plan"):
        export(checkpoint(decides="random"), tmp_path / "o", ExportOptions(("onnx",)))


def test_weights_of_other_backbones(arnet: Checkpoint, tmp_path: Path, refused: Refused) -> None:
    """A checkpoint, and a recipe, that say another set than what the weights are of."""
    other = {"backbones": (tiny().backbones[0], Backbone(name="phone-s", side=32))}
    path = tmp_path / "c.safetensors"
    save_checkpoint(Checkpoint(arnet.model, arnet.preprocessing), path)
    with safe_open(path, "pt") as file:
        ((key, record),) = file.metadata().items()
    said = json.loads(record)
    said["architecture"] |= json.loads(tiny(**other).model_dump_json())
    save_file(load_file(path), path, {key: json.dumps(said)})
    sentence = refused("export", path, "--out", tmp_path / "o")
    assert "does not hold a arnet-custom" in sentence
    assert "backbones.1.net." in sentence
    assert not (tmp_path / "o").exists()


def test_a_cost_table_is_in_the_plan(arnet: Checkpoint) -> None:
    networks = {"policy": 1.0, "nano@48": 9.0, "nano@32": 4.0}
    costs = CostTable(unit="ms", networks=networks)
    parts = deploy_parts(arnet.model, (SIDE, SIDE))
    choice = make_plan(arnet.arch, parts, "step", costs).choice
    assert choice is not None
    assert choice.unit == "ms"
    assert [action.cost for action in choice.actions] == [10, 5, 1, 1, 0.5, 0.25]


def test_costs_are_measured(
    arnet_bundle: Path, tmp_path: Path, call: Command, refused: Refused
) -> None:
    """``bench --costs`` writes what ``export --costs`` takes."""
    table = tmp_path / "ms.json"
    code, out, err = call(
        "bench", arnet_bundle, "--costs", table, "--steps", 5, "--engine", "litert"
    )
    assert code == 0, err
    assert "nano@32: " in out
    costs = read_costs(table, tiny())
    assert costs.unit == "ms"
    assert all(cost > 0 for cost in costs.networks.values())
    assert "times networks alone" in refused(
        "bench", arnet_bundle, "--costs", table, "--mode", "paced"
    )
    everything = edited(arnet_bundle, tmp_path / "everything", deciding_nothing)
    assert "decides nothing, so there are no costs" in refused(
        "bench", everything, "--costs", table
    )


def test_evaluation_counts_what_ran(arnet_bundle: Path, arnet: Checkpoint) -> None:
    """The same on an engine and in PyTorch: actions, answers, and what was computed for them."""
    video = torch.from_numpy(frames(40)).permute(0, 3, 1, 2).float() / 255
    protocol = EvalProtocol("uniform", 24)
    size = (SIDE, SIDE)
    model = torch_predictor(arnet.model, size, protocol, torch.device("cpu"))
    with Stream(arnet_bundle, "onnxruntime") as stream:
        engine = bundle_predictor(stream, protocol)
        found = [predictor.predict(video) for predictor in (model, engine)]
        torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)
        assert model.taken == engine.taken
        assert sum(engine.taken.values()) == 24
        runs = {name: runner.steps for name, runner in stream.graphs.items()}
        macs = sum(n * Bundle(arnet_bundle).manifest.graph(name).macs for name, n in runs.items())
        assert engine.macs(40) == macs
    assert model.macs(40) == pytest.approx(macs, rel=1e-6)
