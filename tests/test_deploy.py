"""The deploy form computes what the model computes, in every form, layout and spelling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from movinet_edge.export.step_module import FRAME, LOGITS, StepConfig, StepModule
from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.movinet_deploy import DeployMoViNet
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import seeded_model
from movinet_edge.streaming.deploy import NEW, FormName, Layout, tensor_name
from movinet_edge.streaming.spec import describe
from tests.bundles import MOVINETS, lone

SPELLINGS: list[dict[str, object]] = [
    {},
    {"conv": "3d"},
    {"squeeze_excite": "3d", "gate": "sigmoid", "activation": "swish"},
    {"squeeze_excite": "none", "activation": "relu6", "classifier_activation": "relu6"},
    {"gate": "hard_sigmoid_keras", "classifier_activation": "hard_swish"},
    {"positional_encoding": True},
    {"rezero": False},
]

FOLDABLE = [c for c in SPELLINGS if "positional_encoding" not in c]


def stream(module: StepModule, frames: Tensor) -> list[Tensor]:
    """Step through frames [T, 3, H, W] as a host does, by names only."""
    inputs = {name: x for name, x in module.sample().items() if name != FRAME}
    answers = []
    for frame in frames:
        out = module(**{FRAME: frame[None].permute(0, 2, 3, 1)}, **inputs)
        for state in module.states:
            if module.config.form == "fresh":
                newest = out[state.carry_input + NEW]
                names = state.fresh_inputs
                values = [inputs[name] for name in names[1:]] + [newest]
                inputs.update(zip(names, values, strict=True))
            else:
                name = state.carry_input
                inputs[name] = out[name] if name in out else out[name + NEW]
        answers.append(out[LOGITS][0])
    return answers


def relative_error(ours: Tensor, reference: Tensor) -> float:
    return float((ours - reference).abs().max() / reference.std())


def step_module(
    model: MoViNet,
    side: tuple[int, int],
    form: FormName,
    layout: Layout,
    frames: int = 1,
    integers: bool = False,
) -> StepModule:
    states = describe(model, side).states if form != "clip" else ()
    config = StepConfig(form, layout, side, frames, model.arch.causal)
    body = DeployMoViNet(model, side)
    if integers:
        body.fold({})
    return StepModule(body, lone(states), config).eval()


@pytest.mark.parametrize("changes", SPELLINGS, ids=str)
def test_every_spelling_in_every_form(changes: dict[str, object]) -> None:
    side = (50, 47)  # even and odd: both paddings at every stride
    model = seeded_model(published_arch("a0", True, **changes))
    x = torch.rand(1, 6, 3, *side, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model(x)[0][0]
        for layout in ("NCHW", "NHWC"):
            for form in ("fresh", "carry"):
                module = step_module(model, side, form, layout)  # type: ignore[arg-type]
                assert relative_error(torch.stack(stream(module, x[0])), expected) < 1e-4
            clip = step_module(model, side, "clip", layout, frames=6)  # type: ignore[arg-type]
            out = clip(**{FRAME: x[0].permute(0, 2, 3, 1)})
            assert relative_error(out[LOGITS], expected) < 1e-4


@pytest.mark.parametrize("equalised", [False, True])
@pytest.mark.parametrize(
    "changes", [c for c in SPELLINGS if "positional_encoding" not in c], ids=str
)
def test_the_spelling_for_integers_is_exact(changes: dict[str, object], equalised: bool) -> None:
    side = (50, 47)
    model = seeded_model(published_arch("a0", True, **changes))
    x = torch.rand(1, 4, 3, *side, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model(x)[0][0]
        body = DeployMoViNet(model, side)
        rng = torch.Generator().manual_seed(0)
        sites = {n: s for n, s in body.sites().items() if equalised and n != "stem"}
        scales = {n: 3 + 20 * torch.rand(len(s.bias), generator=rng) for n, s in sites.items()}
        body.fold(scales)
        states = describe(model, side).states
        module = StepModule(body, lone(states), StepConfig("fresh", "NHWC", side)).eval()
        assert relative_error(torch.stack(stream(module, x[0])), expected) < 1e-4
        clip = step_module(model, side, "clip", "NCHW", frames=4, integers=True)
        out = clip(**{FRAME: x[0].permute(0, 2, 3, 1)})
        assert relative_error(out[LOGITS], expected) < 1e-4


@pytest.mark.parametrize("name", list(MOVINETS))
def test_every_model_folds(name: str) -> None:
    arch = MOVINETS[name]
    model, side = seeded_model(arch), (48, 48)
    x = torch.rand(1, 4, 3, *side)
    with torch.no_grad():
        expected = model(x)[0][0]
        if arch.causal:
            answers = torch.stack(stream(step_module(model, side, "fresh", "NHWC"), x[0]))
        else:
            module = step_module(model, side, "clip", "NHWC", frames=4)
            answers = module(**{FRAME: x[0].permute(0, 2, 3, 1)})[LOGITS]
    assert relative_error(answers, expected) < 1e-4


def test_all_tensors_have_rank_four_at_most() -> None:
    for form, frames in (("fresh", 1), ("carry", 1), ("clip", 3)):
        model = seeded_model(published_arch("a0", True))
        module = step_module(model, (48, 48), form, "NCHW", frames)  # type: ignore[arg-type]
        program = torch.export.export(module, (), kwargs=module.sample())
        for node in program.graph.nodes:
            value = node.meta.get("val")
            if isinstance(value, Tensor) and node.op == "call_function":
                assert value.dim() <= 4, f"{node.name} has rank {value.dim()}"
                assert "conv3d" not in str(node.target)


def test_uint8_and_softmax_inside_the_graph() -> None:
    model, side = seeded_model(published_arch("a0", True)), (48, 48)
    frame = torch.randint(0, 256, (1, *side, 3), dtype=torch.uint8)
    plain = step_module(model, side, "fresh", "NHWC")
    config = StepConfig("fresh", "NHWC", side, in_graph_preprocess=True, softmax=True)
    inside = StepModule(plain.body, plain.part, config).eval()
    assert inside.inputs()[FRAME] == ((1, *side, 3), torch.uint8)
    states = {name: x for name, x in plain.sample().items() if name != FRAME}
    with torch.no_grad():
        expected = plain(**{FRAME: frame.float() / 255}, **states)[LOGITS].softmax(-1)
        torch.testing.assert_close(inside(**{FRAME: frame}, **states)[LOGITS], expected)


def test_tensor_names_are_identifiers_and_unique() -> None:
    for arch in MOVINETS.values():
        if arch.causal:
            with torch.device("meta"):
                model = MoViNet(arch)
            states = describe(model, (64, 64)).states
            names = [name for state in states for name in state.fresh_inputs]
            assert all(name.isidentifier() for name in names)
            assert len(set(names)) == len(names)
            assert tensor_name("b1.l0.stream") == "b1_l0_stream"
