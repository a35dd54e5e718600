"""What all encoders have in common: vectors of snippets, in PyTorch and as graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from movinet_edge.errors import BadInput
from movinet_edge.export.facts import MAX_RANK
from movinet_edge.export.step_module import FRAME, StepConfig, StepModule
from movinet_edge.export.to_litert import to_litert
from movinet_edge.export.to_onnx import to_onnx
from movinet_edge.models.encoder import Encoder, EncoderArch
from movinet_edge.models.encoder_deploy import FEATURES
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.r2plus1d_table import r2plus1d_arch
from movinet_edge.models.registry import (
    FAMILIES,
    MODELS,
    build,
    named_arch,
    seeded_model,
    snippet_part,
)
from movinet_edge.models.tsm_table import tsm_arch
from movinet_edge.pattern import moving_pattern
from movinet_edge.streaming.deploy import FormName, Layout
from movinet_edge.streaming.spec import module_macs

SIDE = 48
FRAMES = 4
SMALL: dict[str, object] = {"classes": 5, "resolution": SIDE, "frames": FRAMES}
ARCHS: dict[str, EncoderArch] = {
    "tsm": tsm_arch("tiny", **SMALL),
    "tsm-causal": tsm_arch("tiny", causal=True, **SMALL),
    "r2plus1d": r2plus1d_arch("tiny", **SMALL),
    "movinet": published_arch("a0", True, hidden=16, **SMALL),
    "movinet-base": published_arch("a0", False, hidden=16, **SMALL),
}


def encoder(name: str) -> Encoder:
    model = seeded_model(ARCHS[name])
    assert isinstance(model, Encoder)
    return model


def videos(batch: int, snippets: int) -> torch.Tensor:
    """[B, S, F, 3, H, W]; every snippet is another scene."""
    scenes = [moving_pattern(FRAMES, SIDE, SIDE, seed) for seed in range(batch * snippets)]
    frames = torch.from_numpy(np.stack(scenes)).permute(0, 1, 4, 2, 3).float() / 255
    return frames.unflatten(0, (batch, snippets))


@pytest.mark.parametrize("name", ARCHS)
def test_one_vector_for_every_snippet(name: str) -> None:
    model, arch = encoder(name), ARCHS[name]
    x = videos(2, 3)
    with torch.inference_mode():
        vectors = model.encode(x)
        alone = torch.stack(
            [model.encode(x[b : b + 1, s : s + 1]) for b in range(2) for s in range(3)]
        )
    assert vectors.shape == (2, 3, arch.features)
    torch.testing.assert_close(alone.reshape(vectors.shape), vectors, rtol=1e-4, atol=1e-4)
    assert vectors.flatten(0, 1).unique(dim=0).shape[0] == 6
    assert arch.clip_frames == FRAMES
    assert arch.frame_rate > 0
    with pytest.raises(ValueError, match=r"snippets are \[B, S, F, 3, H, W\], not \[3, 4, "):
        model.encode(x[0])


@pytest.mark.parametrize("name", ARCHS)
def test_the_classifier_rests_on_the_vector(name: str) -> None:
    """The last answer to a snippet is what its dense layers make of the vector."""
    model = encoder(name)
    x = videos(1, 1)
    seen: list[torch.Tensor] = []
    head = model.get_submodule("head")
    first = "hidden" if hasattr(head, "hidden") else "classify"
    model.get_submodule(f"head.{first}").register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.inference_mode():
        model(x[:, 0])
        torch.testing.assert_close(model.encode(x)[:, 0], seen[0][:, -1])


def test_gradients_reach_the_first_layer() -> None:
    """End to end through every snippet, as training for localization needs."""
    for name in ARCHS:
        model = encoder(name).train()
        x = videos(1, 2).requires_grad_()
        model.encode(x).square().sum().backward()
        assert x.grad is not None
        assert (x.grad.flatten(2).norm(dim=2) > 0).all(), name


def test_published_widths() -> None:
    widths = {
        **{"tsm-resnet18": 512, "tsm-resnet34-causal": 512, "tsm-resnet50": 2048},
        **{"r2plus1d-18": 512, "movinet-a0-stream": 480, "movinet-a2-base": 640},
    }
    for name, width in widths.items():
        arch = named_arch(name)
        assert isinstance(arch, EncoderArch)
        assert arch.features == width
    others = {arch.family for arch in MODELS.values() if not isinstance(arch, EncoderArch)}
    assert others == set(FAMILIES) - {"tsm", "r2plus1d", "movinet", "localizer"}
    with pytest.raises(BadInput, match="slowfast-tiny gives no vectors of snippets; take one of"):
        snippet_part(build(named_arch("slowfast-tiny")), (SIDE, SIDE))


GRAPHS: list[tuple[str, FormName]] = [
    *(("tsm", "clip"), ("tsm-causal", "fresh"), ("tsm-causal", "clip"), ("r2plus1d", "clip")),
    *(("movinet", "fresh"), ("movinet", "clip")),
]


def graph(model: Encoder, form: FormName, layout: Layout) -> StepModule:
    frames = FRAMES if form == "clip" else 1
    part = snippet_part(model, (SIDE, SIDE), frames)
    macs = module_macs(model, (SIDE, SIDE), frames)
    dense = sum(n for name, n in macs.items() if name in ("head.hidden", "head.classify"))
    assert 0 < part.macs == sum(macs.values()) - dense
    config = StepConfig(form, layout, (SIDE, SIDE), frames, model.arch.causal)
    return StepModule(part.body(), part, config).eval()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("name", "form"), GRAPHS)
def test_graphs_give_the_vector(name: str, form: FormName, layout: Layout) -> None:
    """Of a clip at once, or of a stream that begins with the snippet, after its last frame."""
    model = encoder(name)
    step = graph(model, form, layout)
    x = videos(1, 1)
    images = x[0, 0].permute(0, 2, 3, 1)
    with torch.inference_mode():
        inputs = {k: v for k, v in step.sample().items() if k != FRAME}
        for piece in images.split(step.config.frames):
            outputs = step(**inputs, **{FRAME: piece})
            inputs = rotated(inputs, outputs)
        wanted = model.encode(x)[0]
    torch.testing.assert_close(outputs[FEATURES], wanted, rtol=1e-4, atol=1e-4)


def rotated(
    inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The next step's states: a buffer's frames move up by one."""
    found = {}
    for name in inputs:
        stem, _, number = name.rpartition("_")
        new = outputs.get(f"{name}_new")
        following = (
            inputs.get(f"{stem}_{int(number) + 1}") if number.isdigit() and new is None else new
        )
        found[name] = outputs[f"{stem}_new"] if following is None else following
    return found


@pytest.mark.parametrize(("name", "form"), [("tsm", "clip"), ("tsm-causal", "fresh")])
def test_graphs_convert(tmp_path: Path, name: str, form: FormName) -> None:
    """To both formats; engines give the vector, on one partition, without rank 5."""
    onnxruntime = pytest.importorskip("onnxruntime")
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    model = encoder(name)
    x = videos(1, 1)
    to_onnx(graph(model, form, "NCHW"), tmp_path / "x.onnx", {})
    to_litert(graph(model, form, "NHWC"), tmp_path / "x.tflite")
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    interpreter = litert.Interpreter(str(tmp_path / "x.tflite"))
    interpreter.allocate_tensors()
    assert max(len(t["shape"]) for t in interpreter.get_tensor_details()) <= MAX_RANK
    assert sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details()) == 1
    runner = litert.Interpreter(str(tmp_path / "x.tflite")).get_signature_runner()
    frames = x[0, 0].permute(0, 2, 3, 1).contiguous().numpy()
    with torch.inference_mode():
        wanted = model.encode(x if form == "clip" else x[:, :, :1])[0].numpy()
    first = frames if form == "clip" else frames[:1]
    for answer in (
        session.run([FEATURES], inputs_of(graph(model, form, "NCHW"), first))[0],
        runner(**inputs_of(graph(model, form, "NHWC"), first))[FEATURES],
    ):
        np.testing.assert_allclose(answer, wanted, rtol=1e-3, atol=1e-4)


def inputs_of(step: StepModule, frames: np.ndarray) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in step.sample().items()} | {FRAME: frames}
