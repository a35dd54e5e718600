"""TSM: shifts against plain loops, streams against clips, snippets against each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from movinet_edge.export.step_module import FRAME, LOGITS, StepConfig, StepModule
from movinet_edge.models.registry import MODELS, build, deploy_parts, seeded_model
from movinet_edge.models.tsm import Tsm
from movinet_edge.models.tsm_table import VARIANTS, TsmArch, tsm_arch
from movinet_edge.pattern import moving_pattern
from movinet_edge.streaming.deploy import FormName, Layout
from movinet_edge.streaming.layers import TemporalShift, shift_both
from movinet_edge.streaming.spec import describe, initial_state
from movinet_edge.streaming.state import CLOCK, name_states
from tests.pieces import in_pieces

SIDE = 48
FRAMES = 4
CLASSES = 5


def tiny(causal: bool = False, **changes: object) -> TsmArch:
    fields: dict[str, object] = {"classes": CLASSES, "resolution": SIDE, "frames": FRAMES}
    return tsm_arch("tiny", causal=causal, **fields | changes)


def model_of(arch: TsmArch, seed: int = 0) -> Tsm:
    model = seeded_model(arch, seed)
    assert isinstance(model, Tsm)
    return model


def clip(frames: int, batch: int = 2, seed: int = 0) -> Tensor:
    """Generated videos, float64 [B, T, 3, H, W]."""
    videos = [moving_pattern(frames, SIDE, SIDE, batch * seed + b) for b in range(batch)]
    return torch.from_numpy(np.stack(videos)).permute(0, 1, 4, 2, 3).double() / 255


def test_the_shift_value_by_value() -> None:
    """Channel 0 of 8 takes the next frame's, channel 1 the last one's, zeros at the ends."""
    x = torch.randn(2, 3, 8, 1, 2)
    y = shift_both(x, 8, 1, 2)
    for b, t, c in np.ndindex(2, 3, 8):
        source = t + {0: 1, 1: -1}.get(c, 0)
        wanted = x[b, source, c] if 0 <= source < 3 else torch.zeros(1, 2)
        assert torch.equal(y[b, t, c], wanted), (b, t, c)
    assert torch.equal(shift_both(x[:, :1], 8, 1, 2)[:, :, :2], torch.zeros(2, 1, 2, 1, 2))


def test_the_one_way_shift_value_by_value() -> None:
    x, layer = torch.randn(2, 3, 16, 1, 2), TemporalShift(16)
    name_states(layer)
    y, entry = layer(x, {})
    for t, c in np.ndindex(3, 16):
        source = t - (c < 2)
        wanted = x[:, source, c] if source >= 0 else torch.zeros(2, 1, 2)
        assert torch.equal(y[:, t, c], wanted), (t, c)
    assert torch.equal(entry["stream"], x[:, 2:, :2])


def test_which_blocks_shift() -> None:
    """All of them, but every second one of deep networks; as the public code inserts them."""
    for name, table in (("resnet18", (2, 2, 2, 2)), ("resnet50", (3, 4, 6, 3))):
        places = [(s, i) for s, i, _ in tsm_arch(name).shifted()]
        assert places == [(s, i) for s, count in enumerate(table) for i in range(count)]
    deep = [(s, i) for s, i, _ in tsm_arch("resnet101").shifted()]
    assert deep == [(s, i) for s, count in enumerate((3, 4, 23, 3)) for i in range(0, count, 2)]


def test_shifts_are_on_the_residual_branch_only() -> None:
    """With all convolutions of a block silent, its input passes and no frame sees another."""
    model = model_of(tiny()).double()
    model.start_residuals(0.0)
    x = clip(FRAMES)
    other = x.clone()
    other[:, 1] = 1 - other[:, 1]
    with torch.inference_mode():
        one, two = model._snippet(x), model._snippet(other)
        assert torch.equal(one[:, [0, 2, 3]], two[:, [0, 2, 3]])
        assert not torch.allclose(one[:, 1], two[:, 1])
        mixed = model_of(tiny()).double()
        assert not torch.allclose(mixed._snippet(x)[:, 0], mixed._snippet(other)[:, 0])


@pytest.mark.parametrize("pieces", [(7,), (1,) * 7, (3, 1, 2, 1)], ids=len)
def test_clips_and_steps_are_the_same(pieces: tuple[int, ...]) -> None:
    model, x = model_of(tiny(True)).double(), clip(7)
    with torch.no_grad():
        whole, after = model(x)
        parts, state = in_pieces(model, x, pieces)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-9)
    assert state.keys() == after.keys()
    for name, value in after.items():
        torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-9)


def test_a_stream_ignores_what_comes_later_and_forgets_at_a_reset() -> None:
    model, x = model_of(tiny(True)).double(), clip(6)
    with torch.no_grad():
        whole, after = model(x)
        later = x.clone()
        later[:, 4:] = 1 - later[:, 4:]
        changed, _ = model(later)
        zeros = {name: torch.zeros_like(value) for name, value in after.items()}
        again, _ = model(x, zeros)
        going_on, _ = model(x, after)
    assert torch.equal(changed[:, :4], whole[:, :4])
    assert not torch.allclose(changed[:, 4:], whole[:, 4:])
    assert torch.equal(again, whole)
    assert not torch.allclose(going_on, whole)


def test_every_state_matters() -> None:
    arch = tiny(True)
    model = model_of(arch)
    spec = describe(model, (SIDE, SIDE))
    names = [state.name for state in spec.states]
    assert names == [f"shifts.{s}_{i}.stream" for s, i, _ in arch.shifted()] + ["head.pool", CLOCK]
    shapes = {state.name: state.shape for state in spec.states}
    assert shapes["shifts.0_0.stream"] == (2, SIDE // 4, SIDE // 4)  # an eighth of 16 channels
    x = clip(1, 1).float()
    with torch.no_grad():
        state = {k: v + 0.5 for k, v in initial_state(spec).items()}
        base, _ = model(x, state)
        for name in names:
            changed, _ = model(x, state | {name: state[name] + 1})
            assert not torch.equal(changed, base), name


def test_a_two_way_snippet_sees_itself_only() -> None:
    """A clip of two snippets is the mean of both, whatever stands in the other one."""
    model, x = model_of(tiny()).double(), clip(2 * FRAMES)
    with torch.no_grad():
        logits, state = model(x)
        each = [model(part)[0] for part in x.split(FRAMES, 1)]
        torch.testing.assert_close(logits, torch.stack(each).mean(0))
        vectors = model.encode(x.unflatten(1, (2, FRAMES)))
        torch.testing.assert_close(model.head.classify(vectors.mean(1)), logits[:, 0])
        ragged, _ = model(x[:, : FRAMES + 1])  # a short video's rest is a snippet, too
        assert ragged.shape == (2, 1, CLASSES)
    assert not state
    with pytest.raises(ValueError, match="takes no state"):
        model(x, {CLOCK: torch.zeros(1)})


def test_a_one_way_vector_is_that_of_a_stream_that_begins() -> None:
    model, x = model_of(tiny(True)).double(), clip(2 * FRAMES)
    with torch.no_grad():
        vectors = model.encode(x.unflatten(1, (2, FRAMES)))
        for number, part in enumerate(x.split(FRAMES, 1)):
            logits, _ = model(part)
            torch.testing.assert_close(model.head.classify(vectors[:, number]), logits[:, -1])


def test_sizes_and_work() -> None:
    """Shifts cost nothing: parameters and multiply-adds are the ResNet's (see test_backbones)."""
    published = {
        "resnet18": (11.18, 1.8137),
        "resnet34": (21.28, 3.6634),
        "resnet50": (23.51, 4.0875),
    }
    for name, (millions, gmacs) in published.items():
        for causal in (False, True):
            arch = tsm_arch(name, causal=causal, classes=200)
            with torch.device("meta"):
                model = build(arch)
            head = 200 * (arch.features + 1)
            parameters = sum(p.numel() for p in model.parameters())
            assert (parameters - head) / 1e6 == pytest.approx(millions, abs=5e-3)
            assert describe(model, (224, 224)).macs / 1e9 == pytest.approx(gmacs, abs=5e-5)
            if not causal:
                clip_macs = describe(model, (224, 224), 8).macs
                once = describe(model, (224, 224)).macs
                assert clip_macs == 8 * (once - 200 * arch.features) + 200 * arch.features


def test_variants_are_models() -> None:
    for label in VARIANTS:
        assert {f"tsm-{label}", f"tsm-{label}-causal"} <= MODELS.keys()
    with pytest.raises(ValueError, match="TSM has no backbone 'nano'; choose resnet18"):
        TsmArch(backbone="nano")


CASES: list[tuple[bool, FormName]] = [
    (True, "fresh"),
    (True, "carry"),
    (True, "clip"),
    (False, "clip"),
]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("causal", "form"), CASES)
def test_deploy_forms_compute_the_same(causal: bool, form: FormName, layout: Layout) -> None:
    """All ranks are at most 4, which the state of a step and a clip in the batch axis have."""
    model = model_of(tiny(causal))
    count = 2 * FRAMES
    x = clip(count, 1).float()
    with torch.inference_mode():
        wanted = model(x)[0][0]
    frames = count if form == "clip" else 1
    (part,) = deploy_parts(model, (SIDE, SIDE), frames)
    assert len(part.states) == (0 if form == "clip" else 6)
    config = StepConfig(form, layout, (SIDE, SIDE), frames, causal)
    step = StepModule(part.body(), part, config).eval()
    assert max(len(shape) for shape, _ in step.inputs().values()) <= 4
    images = x[0].permute(0, 2, 3, 1)
    answers = []
    with torch.inference_mode():
        state = {k: v for k, v in step.sample().items() if k != FRAME}
        for piece in images.split(frames):
            outputs = step(**state, **{FRAME: piece})
            answers.append(outputs.pop(LOGITS))
            # A buffer holds one frame, so that fresh inputs are those of carry with a number.
            after = {name.removesuffix("_new"): value for name, value in outputs.items()}
            state = {name: after[name.removesuffix("_0")] for name in state}
    torch.testing.assert_close(torch.cat(answers), wanted, rtol=1e-4, atol=1e-4)
