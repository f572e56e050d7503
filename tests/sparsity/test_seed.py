"""How many connections each matrix gets at the start, and that masks stand where they should."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from growprune.errors import RecipeError
from growprune.sparsity import GrowPrune, Plan


def seeded(model, seed=0, **plan):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return GrowPrune(model, optimizer, Plan.from_dict(plan), seed=seed)


def two_layers():
    return nn.Sequential(nn.Linear(30, 10, bias=False), nn.Linear(10, 2, bias=False))


def counts(grow_prune):
    return {name: int(mask.sum()) for name, mask in grow_prune.masks.items()}


def test_uniform_is_the_same_density_everywhere():
    grow_prune = seeded(two_layers(), seed_density=0.3)
    assert counts(grow_prune) == {"0.weight": 90, "1.weight": 6}
    assert grow_prune.densities() == {"0.weight": 0.3, "1.weight": 0.3}
    assert (grow_prune.active(), grow_prune.density()) == (96, 0.3)


def test_erdos_renyi_by_hand():
    # 0.1 of 320 is 32 connections; rows + columns are 40 and 12, so 24.6 and 7.4 connections.
    grow_prune = seeded(two_layers(), seed_density=0.1, distribution="erdos_renyi")
    assert counts(grow_prune) == {"0.weight": 25, "1.weight": 7}
    # At 0.3 the small matrix would get 22 of 20: it is full, the other takes the rest of 96.
    grow_prune = seeded(two_layers(), seed_density=0.3, distribution="erdos_renyi")
    assert counts(grow_prune) == {"0.weight": 76, "1.weight": 20}


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=4),
    st.floats(0.001, 1),
    st.sampled_from(["uniform", "erdos_renyi"]),
    st.sampled_from(["weight", "block", "row", "column"]),
)
def test_total_is_exact_for_any_shapes(shapes, density, distribution, granularity):
    model = nn.ModuleList(nn.Linear(columns, rows) for rows, columns in shapes)
    grow_prune = seeded(
        model, seed_density=density, distribution=distribution, granularity=granularity
    )
    per_matrix = {
        "weight": lambda mask: mask,
        "block": lambda mask: mask[::16],
        "row": lambda mask: mask[:, :1],
        "column": lambda mask: mask[:1],
    }[granularity]
    tiles = torch.cat([per_matrix(mask).flatten() for mask in grow_prune.masks.values()])
    assert int(tiles.sum()) == int(density * len(tiles) + 0.5)
    for name, parameter in model.named_parameters():
        if name in grow_prune.masks:
            assert (parameter[~grow_prune.masks[name]] == 0).all()


@pytest.mark.parametrize("granularity", ["block", "row", "column"])
def test_masks_are_made_of_whole_tiles(granularity):
    model = nn.Linear(6, 35)
    mask = seeded(model, seed_density=0.5, granularity=granularity).masks["weight"]
    tiles = {
        "block": [mask[0:16], mask[16:32], mask[32:35]],
        "row": list(mask[:, None, :].transpose(1, 2)),
        "column": [mask],
    }[granularity]
    for tile in tiles:
        assert (tile == tile[:1]).all()
    assert 0 < mask.sum() < mask.numel()


def test_seed_is_reproducible_and_its_number_matters():
    first, same, other = (seeded(two_layers(), seed=s, seed_density=0.5).masks for s in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_rescaled_seed_varies_as_all_connections_would():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 100), nn.Linear(100, 50))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    overrides = [{"pattern": "1.*", "seed_density": 1.0}]
    masks = seeded(model, seed_density=0.16, rescale_seed=True, overrides=overrides).masks
    scaled = torch.where(masks["0.weight"], 2.5 * before["0.weight"], 0.0)
    torch.testing.assert_close(model[0].weight, scaled)
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(model.get_parameter(name), before[name])
    x = torch.randn(500, 200)
    dense = x @ before["0.weight"].T
    assert (x @ scaled.T).std() == pytest.approx(float(dense.std()), rel=0.05)


def test_rescaling_an_empty_matrix_leaves_zeros():
    model = two_layers()
    seeded(model, seed_density=0.001, rescale_seed=True)
    assert not model[1].weight.any()


def test_convolution_is_seen_as_out_times_rest():
    model = nn.Conv2d(3, 4, (5, 2))
    mask = seeded(model, seed_density=0.5, granularity="row").masks["weight"]
    assert mask.shape == (4, 3, 5, 2)
    assert mask.flatten(1).all(1).sum() == 2
    assert mask.sum() == 60


def test_override_sets_its_own_seed_density():
    overrides = [
        {"pattern": "1.*", "seed_density": 1.0},
        {"pattern": "*", "max_density": 1.0},
    ]
    grow_prune = seeded(two_layers(), seed_density=0.3, overrides=overrides)
    assert counts(grow_prune) == {"0.weight": 90, "1.weight": 20}


def test_override_that_matches_nothing_is_an_error():
    with pytest.raises(
        RecipeError, match=r"pattern 'out\.\*' matches none of 0\.weight, 1\.weight"
    ):
        seeded(two_layers(), overrides=[{"pattern": "out.*", "seed_density": 1.0}])


def test_masks_given_out_are_copies():
    grow_prune = seeded(two_layers(), seed_density=0.3)
    grow_prune.masks["0.weight"].fill_(True)
    assert counts(grow_prune)["0.weight"] == 90
