"""Dropout against its definition and torch's."""

import math

import pytest
import torch
from torch import nn

from growprune.nn.dropout import Dropout


@pytest.mark.parametrize("p", [0.001, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(1_000_003,), (1001, 3, 333)])
def test_as_many_are_dropped_as_asked_and_the_others_scaled(p, shape):
    torch.manual_seed(0)
    y = Dropout(p)(torch.ones(shape))
    dropped = (y == 0).double().mean()
    spread = math.sqrt(p * (1 - p) / y.numel())
    assert abs(dropped - p) < 4 * spread + 1 / 65536
    kept = y[y != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=1e-3, atol=0)
    assert abs(y.double().mean() - 1) < 4 * spread / (1 - p)


def test_neighbours_are_dropped_independently_of_each_other():
    """Four values share one draw of 64 bits."""
    torch.manual_seed(1)
    dropped = (Dropout(0.3)(torch.ones(4_000_000)) == 0).double().view(-1, 4)
    correlations = torch.corrcoef(dropped.T) - torch.eye(4)
    assert correlations.abs().max() < 5 / 1000
    for share in dropped.mean(0):
        assert abs(share - 0.3) < 5 * math.sqrt(0.21 / 1e6)


def test_gradients_pass_where_values_do():
    torch.manual_seed(2)
    x = torch.randn(7, 9, 5, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x, y)
    assert 0 < (x.grad == 0).sum() < x.numel()


@pytest.mark.parametrize(
    "layer", [Dropout(0.5).eval(), Dropout(0.0), Dropout(1.0), Dropout(0.5, inplace=True)]
)
def test_torchs_own_runs_where_there_is_nothing_to_gain(layer):
    x = torch.randn(50, 40)
    plain = nn.Dropout(layer.p, layer.inplace).train(layer.training)
    torch.manual_seed(3)
    found = layer(x.clone())
    torch.manual_seed(3)
    assert torch.equal(found, plain(x.clone()))


def test_bfloat16_and_empty_and_transposed():
    torch.manual_seed(4)
    y = Dropout(0.5)(torch.ones(1000, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert set(y.tolist()) == {0.0, 2.0}
    assert Dropout(0.5)(torch.ones(0, 3)).shape == (0, 3)
    x = torch.randn(6, 8).T
    y = Dropout(0.5)(x)
    assert torch.equal(y[y != 0], 2 * x[y != 0])
