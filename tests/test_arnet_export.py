"""Bundles of AR-Net: a plan that branches, the same decisions everywhere, nothing run in vain."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movinet_edge.benchmarks.native_plan import prepare
from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.decisions import follow, run_and_note
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.verify import verify_bundle
from movinet_edge.files import MANIFEST, sha256_of
from movinet_edge.runtime import Stream
from movinet_edge.runtime.engines import Buffers
from tests.arnets import ENGINES, actions_of, checkpoint, frames
from tests.bundles import edited, logits_of
from tests.commands import Command, Refused
from tests.test_arnet import CLASSES, tiny
from tests.videos import encode_video


def test_the_bundle_is_verified(arnet_bundle: Path) -> None:
    record = verify_bundle(Bundle(arnet_bundle))
    assert record.holds, [check for check in record.checks if not check.holds]
    assert {s.backend for s in record.streams} >= {"litert", "onnxruntime", "torch"}
    judged = [s.decisions for s in record.streams if s.decisions is not None]
    assert len(judged) == len(record.streams) - 1  # all but the PyTorch model itself
    assert all(d.equal == 1 and d.decided > 4 for d in judged)
    names = [check.name for check in record.checks]
    assert names.count("decisions on golden") == len(judged)
    assert names.count("swapped states are noticed") == len(judged)
    assert all(fact.max_rank <= 4 for fact in record.facts)
    assert all(fact.transposes == 0 for fact in record.facts if fact.format == "tflite")


@pytest.fixture(scope="module")
def public_rule(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    """Of a model whose cell state goes on while a skip runs."""
    made, path = checkpoint(hold="hidden"), tmp_path_factory.mktemp("arnet") / "public"
    export(made, path, ExportOptions(("onnx",), verify=False))
    return made, path


def decides_as_the_model(made: Checkpoint, path: Path, backend: str) -> None:
    """Free running over many scenes, every action among them: decisions, and logits."""
    images = frames()
    logits, wanted = follow(made.model, images)
    with Stream(path, backend) as stream:
        answers, taken = run_and_note(stream, images)
    assert taken is not None
    np.testing.assert_array_equal(taken.numbers, wanted.numbers)
    np.testing.assert_array_equal(taken.decided, wanted.decided)
    np.testing.assert_allclose(answers, logits, rtol=1e-3, atol=1e-4)
    assert set(wanted.numbers.tolist()) == set(range(6))


@pytest.mark.parametrize("backend", ENGINES)
def test_engines_decide_as_the_model(arnet: Checkpoint, arnet_bundle: Path, backend: str) -> None:
    decides_as_the_model(arnet, arnet_bundle, backend)


def test_the_public_rule_decides_as_the_model(public_rule: tuple[Checkpoint, Path]) -> None:
    decides_as_the_model(*public_rule, "onnxruntime")


@pytest.mark.parametrize("backend", ENGINES)
def test_nothing_runs_in_vain(arnet_bundle: Path, backend: str) -> None:
    """Engine calls are counted: the policy's where no skip runs, a backbone's when it is chosen."""
    calls: Counter[str] = Counter()
    with Stream(arnet_bundle, backend) as stream:
        for name, runner in stream.graphs.items():
            bind = runner.engine.bind

            def counting(
                inputs: Buffers,
                outputs: Buffers,
                name: str = name,
                bind: Callable[[Buffers, Buffers], Callable[[], None]] = bind,
            ) -> Callable[[], None]:
                call = bind(inputs, outputs)

                def run() -> None:
                    calls[name] += 1
                    call()

                return run

            runner.engine.bind = counting  # type: ignore[method-assign]
        images = frames()
        taken = Counter(actions_of(stream, images))
    actions = tiny().actions
    expected = {"policy": 0}
    expected |= {f"backbone_{k}": taken[actions[k].name] for k in range(2)}
    with Stream(arnet_bundle, backend) as stream:
        _, noted = run_and_note(stream, images)
    assert noted is not None
    expected["policy"] = int(noted.decided.sum())
    assert dict(calls) == expected
    assert expected["policy"] < len(images)  # skips were taken, and saved something


def test_only_cell_goes_on(public_rule: tuple[Checkpoint, Path]) -> None:
    """The public rule: the policy runs while a skip does, and h is what it was."""
    _, path = public_rule
    manifest = Bundle(path).manifest
    assert manifest.plan.choice is not None
    assert manifest.plan.choice.going_on == ("policy.cell",)
    with Stream(path, "onnxruntime") as stream:
        assert stream.chooser is not None
        policy = stream.graphs["policy"]
        before: dict[str, np.ndarray] = {}
        held = 0
        for image in frames():
            holds = stream.chooser.holds
            stream.step(image)
            after = policy.states()
            if holds:
                held += 1
                np.testing.assert_array_equal(after["policy.hidden"], before["policy.hidden"])
                assert not np.array_equal(after["policy.cell"], before["policy.cell"])
            before = after
        assert held > 3
        assert policy.steps == 64


@pytest.mark.parametrize("backend", ENGINES)
def test_streams_are_their_own(arnet_bundle: Path, backend: str) -> None:
    """Reset begins anew in the middle of a skip, and two streams that take turns do not mix."""
    images = frames(24)
    with Stream(arnet_bundle, backend) as one, Stream(arnet_bundle, backend) as two:
        alone = logits_of(one, images), logits_of(two, images[::-1])
        for stream in (one, two):
            assert stream.chooser is not None
            stream.reset()
            for image in images:
                stream.step(image)
                if stream.chooser.holds:
                    break
            stream.reset()
            assert not stream.chooser.holds
        turns = [(one.step(a), two.step(b)) for a, b in zip(images, images[::-1], strict=True)]
    for number in range(2):
        mixed = np.stack([pair[number].logits for pair in turns])  # type: ignore[union-attr]
        np.testing.assert_array_equal(mixed, alone[number])


def test_nothing_but_skips(arnet_bundle: Path) -> None:
    """Answers are zeros, every class alike, as the model's are, and the policy alone runs."""
    with Stream(arnet_bundle, "onnxruntime", cost_bias=1e8) as stream:
        assert stream.finish() is None
        for image in frames(6):
            prediction = stream.step(image)
            assert prediction is not None
            assert prediction.action == "skip 4"
        answer = stream.finish()
        assert {name: runner.steps for name, runner in stream.graphs.items()} == {
            **{"policy": 2, "backbone_0": 0, "backbone_1": 0}
        }
    assert answer is not None
    np.testing.assert_array_equal(answer.logits, np.zeros(CLASSES))
    np.testing.assert_allclose(answer.probabilities, np.full(CLASSES, 1 / CLASSES))


@pytest.mark.parametrize(
    "changes",
    [
        {"lite": False, "rescale": "area"},
        {"policy": None, "lite": False, "skips": (), "decides": "all", "backbones": (1,)},
        pytest.param({"backbones": (), "skips": (), "decides": "all"}, marks=pytest.mark.slow),
        pytest.param({"skips": (), "rescale": "bilinear"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_kind_is_verified(tmp_path: Path, changes: dict[str, object]) -> None:
    """Without the policy's own answer, or skips; all rules of rescaling; single networks."""
    if changes.get("backbones") == (1,):
        changes = changes | {"backbones": tiny().backbones[1:]}
    record = export(checkpoint(**changes), tmp_path / "b", ExportOptions(("onnx",)))
    assert record is not None
    assert record.holds, [check for check in record.checks if not check.holds]


def test_verify_follows_and_judges(arnet_bundle: Path, tmp_path: Path) -> None:
    """Of weights that were moved a little, decisions are found to differ, and by how much."""
    import onnx
    from onnx import numpy_helper

    changed = edited(arnet_bundle, tmp_path / "changed", lambda manifest: None)
    model = onnx.load(changed / "policy.onnx")
    gemm = next(node for node in model.graph.node if "action" in node.output)
    (bias,) = [c for c in model.graph.initializer if c.name == gemm.input[2]]
    values = numpy_helper.to_array(bias).copy()
    values[0] += 3
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, changed / "policy.onnx")
    manifest = json.loads((changed / MANIFEST).read_text())
    for graph in manifest["graphs"]:
        for file in graph["files"]:
            file["sha256"] = sha256_of(changed / file["path"])
    (changed / MANIFEST).write_text(json.dumps(manifest))
    record = verify_bundle(Bundle(changed), ["onnxruntime"], properties=False)
    (stream,) = record.streams
    assert stream.failure is None  # the PyTorch model followed, so the answers are the same
    assert stream.decisions is not None
    assert stream.decisions.equal < 1
    assert not any(flip.is_close for flip in stream.decisions.flips)
    (check,) = [check for check in record.checks if not check.holds]
    assert check.name == "decisions on golden"
    assert "whose scores are" in check.detail


def test_without_pytorch_stored_decisions_count(
    arnet_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import movinet_edge.export.verify as module

    monkeypatch.setattr(module, "reference_models", lambda bundle, notes: None)
    record = verify_bundle(Bundle(arnet_bundle), ["onnxruntime"])
    assert record.holds, [check for check in record.checks if not check.holds]
    assert record.streams[0].decisions is not None
    assert record.streams[0].decisions.equal == 1


# --- what is refused ----------------------------------------------------------------------------


def _misspelt(manifest: dict[str, Any]) -> None:
    manifest["plan"]["steps"][1]["when"] = "resnet50@224"


def _too_few(manifest: dict[str, Any]) -> None:
    del manifest["plan"]["choice"]["actions"][-1]


def _late(manifest: dict[str, Any]) -> None:
    manifest["plan"]["steps"].reverse()


def _skipping(manifest: dict[str, Any]) -> None:
    manifest["plan"]["steps"][1]["when"] = "skip 2"


def _old(manifest: dict[str, Any]) -> None:
    manifest["schema_version"] = 1


def _no_state(manifest: dict[str, Any]) -> None:
    manifest["plan"]["choice"]["going_on"] = ["policy.memory"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_misspelt, "waits for an action 'resnet50@224' that is not there"),
        (_too_few, "does not score 5 actions in 'action'"),
        (_late, "graph 'policy' does not decide first"),
        (_skipping, "waits for 'skip 2', which skips"),
        (_old, "a choice between scales needs schema version 2"),
        (_no_state, "'policy' has no state 'policy.memory'"),
    ],
)
def test_plans_that_cannot_be(
    arnet_bundle: Path, tmp_path: Path, refused: Refused, change: Any, reason: str
) -> None:
    assert reason in refused("inspect", edited(arnet_bundle, tmp_path / "b", change))


def test_devices_are_refused(arnet_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="which the native runner cannot"):
        prepare(Bundle(arnet_bundle), "onnxruntime", tmp_path / "n")


def test_run_shows_actions(arnet_bundle: Path, tmp_path: Path, call: Command) -> None:
    video = tmp_path / "v.mp4"
    encode_video(video, frames(24), 1)
    code, out, err = call("run", arnet_bundle, video, "--json", "--backend", "onnxruntime")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 24
    names = {action.name for action in tiny().actions}
    assert {row["action"] for row in rows} <= names
    assert len({row["action"] for row in rows}) > 1
    code, out, err = call("run", arnet_bundle, video, "--cost-bias", "1e7")
    assert code == 0, err
    assert "frames by action: skip 4 24" in out
    code, out, err = call("inspect", arnet_bundle)
    assert code == 0, err
    assert "policy decides for each frame (GFLOPs of a frame): nano@48" in out
