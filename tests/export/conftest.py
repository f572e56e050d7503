import numpy as np
import pytest
import torch

from growprune import export
from growprune.export.values import input_axes
from growprune.sparsity.granularity import tiling


def _random_mask(shape, granularity, density, generator):
    """A mask of a matrix `(rows, everything else)` with about this share of its tiles active."""
    tiles = tiling(granularity, shape[0], int(np.prod(shape[1:])))
    grid = torch.rand(tiles.grid_shape, generator=generator) < density
    return tiles.spread(grid).reshape(shape)


@pytest.fixture
def mask_module():
    """Draw masks for a module's matrices, zero what they prune, and give the masks."""

    def mask(module, density, granularity="weight", seed=0):
        generator = torch.Generator().manual_seed(seed)
        masks = {}
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if parameter.ndim > 1:
                    masks[name] = _random_mask(parameter.shape, granularity, density, generator)
                    parameter.mul_(masks[name])
        return masks

    return mask


def _randomise(module):
    """Give every parameter and running statistic a value that makes a difference."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and not name.endswith("_mask"):
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))


@pytest.fixture
def assert_packs_alike():
    """Pack a module and compare its output with torch's; gives the packed network.

    Torch's output is transposed by `order` to `(batch, time, features)`.
    """

    def check(module, x, order=None, tolerance=1e-5, **options):
        _randomise(module)
        for name, mask in (options.get("masks") or {}).items():
            module.get_parameter(name).data.mul_(mask)
        with torch.no_grad():
            expected = module.eval()(x)
        expected = expected[0] if isinstance(expected, tuple) else expected
        expected = (expected.permute(order) if order else expected).numpy()
        packed = export.pack(module, **options)
        places = input_axes(options.get("axes") or "btf"[: x.ndim])
        features = [place for place, axis in enumerate(places) if isinstance(axis, int)]
        ahead = [places.index("b"), *([places.index("t")] if "t" in places else [])]
        given = x.permute(*ahead, *features).numpy()
        found, _ = packed.model().run(given if "t" in places else given[:, None])
        if "t" not in places:
            found = found[:, 0]
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
        return packed

    return check
