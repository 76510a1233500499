"""Linear layers that are computed otherwise give the same outputs."""

import pytest
import torch

from sllmreal.engine.products import soonest_product

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (8, 1), (3, 16), (1, 48), (1, 49)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
@torch.inference_mode()
def test_a_product_is_that_of_the_layer(
    dtype: torch.dtype, bias: bool, shape: tuple[int, int]
) -> None:
    """Seeded: the bias of the first output added to all."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 96, bias=bias, dtype=dtype)
    inputs = torch.randn(*shape, 64, dtype=dtype)

    outputs = soonest_product(layer, inputs)

    expected = torch.nn.functional.linear(inputs, layer.weight, layer.bias)
    assert outputs.shape == (*shape, 96)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(outputs, expected, rtol=tolerance, atol=tolerance)


@torch.inference_mode()
def test_inputs_need_not_lie_side_by_side() -> None:
    layer = torch.nn.Linear(8, 4)
    inputs = torch.randn(8, 1, 6).transpose(0, 2)  # (6, 1, 8)

    outputs = soonest_product(layer, inputs)

    torch.testing.assert_close(outputs, layer(inputs.contiguous()))
