"""The grids of simulated static int8: of values, of weights, of weights per channel."""

from __future__ import annotations

import pytest
import torch

from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import seeded_model
from movinet_edge.streaming.deploy import fold_norm
from movinet_edge.streaming.fake_quant import WeightQuant, fake_int8, grid, top_values


def test_the_grid() -> None:
    x = torch.linspace(-1.3, 2.7, 4001, requires_grad=True)
    low, high = torch.tensor(-1.0), torch.tensor(2.0)
    y = fake_int8(x, low, high)
    assert len(y.unique()) <= 256
    assert 0 in y.unique(), "zero must be exact: padding is"
    step = 3 / 255
    inside = (x > -1) & (x < 2)
    assert (y - x)[inside].abs().max() <= step / 2 + 1e-6
    assert y.min() >= -1 - step
    assert y.max() <= 2 + step
    y.sum().backward()
    assert x.grad is not None
    assert (x.grad[inside] == 1).all()
    assert (x.grad[(x < -1 - step) | (x > 2 + step)] == 0).all()
    # Twice is once.
    torch.testing.assert_close(fake_int8(y, low, high), y)
    # Zero is in the grid of a range without it.
    assert fake_int8(torch.tensor([0.0, 5.0]), torch.tensor(4.0), torch.tensor(5.0))[0] == 0


def test_the_grid_is_the_quantizers_own() -> None:
    pytest.importorskip("ai_edge_quantizer")
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor as official

    x = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 3 + 1
    low, high = x.min(), x.max()
    zero, scale = official.tensor_zp_scale_from_min_max(
        low.reshape(1).numpy(),
        high.reshape(1).numpy(),
        8,
        False,
        qtyping.QuantGranularity.TENSORWISE,
    )
    stored = (x / float(scale[0]) + float(zero[0])).round().clamp(-128, 127)
    expected = (stored - float(zero[0])) * float(scale[0])
    assert (fake_int8(x, low, high) - expected).abs().max() < 1e-5 + 0.5 * float(scale[0]) * 0.01


def test_top_values_are_quantiles() -> None:
    x = torch.randn(3, 4, 900, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(top_values(x), x.quantile(0.999, dim=2))
    torch.testing.assert_close(top_values(x[..., :1]), x[..., 0])


def test_weights_are_rounded_as_if_folded() -> None:
    model = seeded_model(published_arch("a0", True, classes=5, hidden=16))
    conv, norm = model.stem.conv, model.stem.norm
    quantiser = WeightQuant()
    folded, _ = fold_norm(conv.weight, norm)
    expected = quantiser(folded)
    late, _ = fold_norm(quantiser(conv.weight), norm)
    torch.testing.assert_close(late, expected, atol=1e-6, rtol=1e-4)
    for channel, weight in zip(folded, expected, strict=True):
        step = channel.abs().max() / 127
        assert ((weight / step) - (weight / step).round()).abs().max() < 1e-3
        assert (weight - channel).abs().max() <= step / 2 * 1.001


def test_an_equalised_input_changes_the_grid_of_dense_weights() -> None:
    weight = torch.randn(4, 6, 1, 1, generator=torch.Generator().manual_seed(3))
    quantiser = WeightQuant()
    quantiser.scales = torch.tensor([1.0, 50.0, 3.0])  # repeats, as behind a concatenation
    scales = quantiser.scales.repeat(2)[None, :, None, None]
    got = quantiser(weight) * scales  # what the folded graph holds
    step = (weight * scales).abs().amax((1, 2, 3), keepdim=True) / 127
    torch.testing.assert_close(
        got, grid(weight * scales, step, *map(torch.tensor, (-127.0, 127.0)))
    )


def test_taps_of_3d_kernels_have_a_scale_each() -> None:
    weight = torch.ones(2, 1, 3, 3, 3)
    weight[:, :, 1] *= 0.001
    torch.testing.assert_close(WeightQuant((0, 2))(weight), weight)
    assert (WeightQuant()(weight)[:, :, 1] == 0).all()
