"""Growth, pruning and rewiring on a tiny matrix, against tables worked out by hand."""

import pytest
import torch
from torch import nn

from growprune.errors import TrainingError
from growprune.sparsity import GrowPrune, Plan

SHAPE = (3, 4)


def start(plan, weight, mask, optimizer=torch.optim.SGD, **options):
    """A 3x4 linear layer with these weights and this mask, walked by `plan`."""
    model = nn.Linear(4, 3, bias=False)
    grow_prune = GrowPrune(
        model, optimizer(model.parameters(), lr=1.0), Plan.from_dict(plan), **options
    )
    with torch.no_grad():
        model.weight.copy_(torch.tensor(weight) * torch.tensor(mask))
    state = grow_prune.state_dict()
    state["masks"]["weight"] = torch.tensor(mask).bool()
    grow_prune.load_state_dict(state)
    return model, grow_prune


def step(model, grow_prune, gradient):
    model.weight.grad = torch.tensor(gradient)
    grow_prune.step()


def table(grow_prune):
    return grow_prune.masks["weight"].int().tolist()


ONES = [[1.0] * 4] * 3
ZEROS = [[0.0] * 4] * 3
SOME = [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]]
GRADIENT = [[0.0, 5.0, -6.0, 9.0], [1.0, 9.0, 2.0, -3.0], [4.0, 4.0, 4.0, 9.0]]


def growing(fraction, **options):
    grow = {"epochs": 1, "interval": options.pop("interval", 1), "fraction": fraction}
    grow |= {key: options.pop(key) for key in ("score", "max_density") if key in options}
    return {"grow": grow, **options}


def test_growth_activates_the_largest_gradients():
    # 0.25 of 12 is 3: |-6|, 5, then the first of the three fours.
    model, grow_prune = start(growing(0.25), ONES, SOME)
    step(model, grow_prune, GRADIENT)
    assert table(grow_prune) == [[1, 1, 1, 1], [0, 1, 0, 0], [1, 0, 0, 1]]


def test_growth_averages_signed_gradients_over_its_interval():
    # The large gradient that changes sign cancels; the small steady one grows.
    model, grow_prune = start(growing(1 / 12, interval=2), ONES, SOME)
    step(model, grow_prune, [[0.0, 9.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0] * 4])
    assert table(grow_prune) == SOME
    step(model, grow_prune, [[0.0, -9.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0] * 4])
    assert table(grow_prune) == [[1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 1]]
    # The next interval begins anew: the old mean of (1, 0) does not count.
    for _ in range(2):
        step(model, grow_prune, [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.1, 0.0], [0.0] * 4])
    assert table(grow_prune) == [[1, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 1]]


def test_momentum_remembers_across_intervals():
    # After gradients 8 and then 1: running averages 0.8 * 0.9 = 0.72 and 0.1 * 1 = 0.1.
    first = [[0.0, 8.0, 7.0, 0.0], [0.0] * 4, [0.0] * 4]
    second = [[0.0] * 4, [1.0, 0.0, 0.0, 0.0], [0.0] * 4]
    for score, grown in [("momentum", (0, 2)), ("gradient", (1, 0))]:
        model, grow_prune = start(growing(1 / 12, score=score), ONES, SOME)
        step(model, grow_prune, first)
        assert grow_prune.masks["weight"][0, 1]
        step(model, grow_prune, second)
        assert grow_prune.masks["weight"][grown]
        assert grow_prune.active() == 6


def test_momentum_forgets():
    # Running averages after two steps: 0.1 * 1.0 * 0.9 = 0.09 against 0.1 * 0.95.
    model, grow_prune = start(growing(1 / 12, interval=2, score="momentum"), ONES, SOME)
    step(model, grow_prune, [[0.0, 1.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4])
    step(model, grow_prune, [[0.0, 0.0, 0.95, 0.0], [0.0] * 4, [0.0] * 4])
    assert table(grow_prune) == [[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 1]]


def test_random_growth_is_exact_and_reproducible():
    tables = []
    for seed in (3, 3, 4):
        model, grow_prune = start(growing(0.25, score="random"), ONES, SOME, seed=seed)
        step(model, grow_prune, GRADIENT)
        assert grow_prune.active() == 7
        tables.append(table(grow_prune))
    assert tables[0] == tables[1] != tables[2]


@pytest.mark.parametrize(
    ("granularity", "mask", "grown"),
    [
        # Row means of |gradient|: 5, 3.75, 5.25.
        ("row", [[0] * 4, [1] * 4, [0] * 4], [[0] * 4, [1] * 4, [1] * 4]),
        # Column means: 5/3, 6, 4, 7.
        ("column", [[0, 0, 0, 1]] * 3, [[0, 1, 0, 1]] * 3),
        # Three rows are one short block a column.
        ("block", [[0, 0, 0, 1]] * 3, [[0, 1, 0, 1]] * 3),
    ],
)
def test_growth_of_whole_tiles(granularity, mask, grown):
    plan = growing(0.3, granularity=granularity)
    model, grow_prune = start(plan | {"seed_density": 0.34}, ONES, mask)
    step(model, grow_prune, GRADIENT)
    assert table(grow_prune) == grown


def test_growth_stops_exactly_at_its_cap_and_at_a_full_matrix():
    for cap, active in [(0.5, 6), (0.75, 9), (None, 12)]:
        options = {} if cap is None else {"max_density": cap}
        model, grow_prune = start(growing(0.25, **options), ONES, SOME)
        for _ in range(5):
            step(model, grow_prune, GRADIENT)
        assert grow_prune.active() == active


def test_a_grown_weight_starts_at_zero_with_fresh_state():
    model, grow_prune = start(
        growing(0.25, interval=2),
        ONES,
        SOME,
        optimizer=lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.5),
    )
    for _ in range(2):
        step(model, grow_prune, GRADIENT)
    assert grow_prune.masks["weight"][0, 2]
    assert model.weight[0, 2] == 0
    buffer = grow_prune.optimizer.state[model.weight]["momentum_buffer"]
    assert buffer[0, 2] == 0
    step(model, grow_prune, GRADIENT)
    # Only this step counts: 0 - lr * (0.5 * 0 + gradient).
    assert model.weight[0, 2] == 6.0
    # An old one: gradient 9 thrice, velocities 9, 13.5, 15.75 from weight 1.
    assert model.weight[0, 3] == 1 - 9 - 13.5 - 15.75


def test_a_grown_weight_under_adam_by_hand():
    def adam(parameters, lr):
        return torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.99), eps=0.0)

    model, grow_prune = start(growing(0.25), ONES, SOME, optimizer=adam)
    for _ in range(2):
        step(model, grow_prune, GRADIENT)
    # Grown after step 1. Step 2: m = 0.1 g, v = 0.01 g^2, corrected by step 2's 0.19 and 0.0199.
    expected = 6 * 0.1 / 0.19 / (0.01 * 36 / 0.0199) ** 0.5
    assert model.weight[0, 2].item() == pytest.approx(expected, rel=1e-6)


def pruning(granularity="weight", **prune):
    return {
        "seed_density": 1.0,
        "granularity": granularity,
        "grow": {"epochs": 1, "fraction": 0.0},
        "prune": {"rounds": 2, **prune},
    }


WEIGHT = [[0.1, -9.0, 3.0, 4.0], [5.0, 0.2, -0.2, 8.0], [7.0, 6.0, 9.0, 0.2]]


def test_pruning_takes_the_smallest_magnitudes():
    _, grow_prune = start(pruning(fraction=0.25), WEIGHT, [[1] * 4] * 3)
    grow_prune.end_epoch()
    # 3 of 12: 0.1 and the first two of the three that tie at 0.2.
    assert table(grow_prune) == [[0, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    grow_prune.end_epoch()
    # 0.25 of 9 rounds to 2.
    assert table(grow_prune) == [[0, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]]


@pytest.mark.parametrize(
    ("granularity", "kept"),
    [
        ("row", [[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]),  # means 4.0, 3.4, 5.1
        ("column", [[1, 1, 0, 1]] * 3),  # means 4.0, 5.1, 3.4, 4.1
    ],
)
def test_pruning_of_whole_tiles(granularity, kept):
    weight = [row[:] for row in WEIGHT]
    weight[2][2] = 7.0
    _, grow_prune = start(pruning(granularity, fraction=0.3), weight, [[1] * 4] * 3)
    grow_prune.end_epoch()
    assert table(grow_prune) == kept


def test_pruning_by_momentum_and_by_chance():
    plan = pruning(fraction=0.25, score="momentum")
    model, grow_prune = start(plan, WEIGHT, [[1] * 4] * 3)
    gradient = [[5.0, 5.0, 0.1, 5.0], [-5.0, 5.0, 5.0, 0.2], [-0.3, -5.0, 5.0, 5.0]]
    step(model, grow_prune, gradient)
    grow_prune.end_epoch()
    assert table(grow_prune) == [[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1]]

    _, by_chance = start(pruning(fraction=0.25, score="random"), WEIGHT, [[1] * 4] * 3)
    by_chance.end_epoch()
    assert by_chance.active() == 9
    assert table(by_chance) != [[0, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]


def test_final_density_is_reached_exactly_through_equal_ratios():
    model = nn.Linear(100, 10, bias=False)
    plan = pruning(final_density=0.1)
    grow_prune = GrowPrune(model, torch.optim.SGD(model.parameters(), 0.1), Plan.from_dict(plan))
    counts = []
    for _ in range(3):
        counts.append(grow_prune.active())
        grow_prune.end_epoch()
    assert counts == [1000, 316, 100]  # 1000 / sqrt(10), 1000 / 10


def rewiring(fraction, **options):
    return {"rewire": {"epochs": 2, "interval": 1, "fraction": fraction, **options}}


def test_rigl_by_hand():
    # Active: 4 weights of 1, 2, 3, 4; half of them go, and the two best dormant gradients come.
    weight = [[2.0, 0.0, 0.0, 1.0], [0.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0]]
    model, grow_prune = start(rewiring(0.5), weight, SOME)
    gradient = [row[:] for row in GRADIENT]
    for i, j in [(0, 0), (0, 3), (1, 1), (2, 3)]:
        gradient[i][j] = 0.0
    step(model, grow_prune, gradient)
    assert table(grow_prune) == [[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert model.weight.tolist() == [[0.0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 0, 3]]


def test_pruned_connections_return_at_zero_only_when_nothing_else_is_dormant():
    mask = [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]
    model, grow_prune = start(rewiring(0.2), WEIGHT, mask)
    step(model, grow_prune, ZEROS)
    # 2 of 11 go (0.1 and a 0.2); the one dormant comes, and the first of the two comes back.
    assert table(grow_prune) == [[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]]
    assert model.weight[0, 0] == 0
    assert model.weight[2, 3] == 0
    assert model.weight[1, 2].item() == pytest.approx(-0.2)


def test_scope_model_lets_matrices_compete():
    for scope, kept in [("matrix", (2, 2)), ("model", (0, 4))]:
        model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
        plan = {**pruning(fraction=0.5), "scope": scope}
        grow_prune = GrowPrune(
            model, torch.optim.SGD(model.parameters(), 0.1), Plan.from_dict(plan)
        )
        with torch.no_grad():
            model[0].weight.fill_(1.0)
            model[1].weight.fill_(2.0)
        grow_prune.end_epoch()
        assert tuple(int(mask.sum()) for mask in grow_prune.masks.values()) == kept


def test_overrides_prune_and_cap_on_their_own():
    model = nn.Sequential(*(nn.Linear(10, 10, bias=False) for _ in range(3)))
    plan = {
        "seed_density": 0.4,
        "scope": "model",
        "grow": {"epochs": 1, "interval": 1, "fraction": 0.2},
        "prune": {"rounds": 1, "fraction": 0.5},
        "overrides": [
            {"pattern": "0.*", "seed_density": 1.0, "prune_fraction": 0.0},
            {"pattern": "1.*", "max_density": 0.45, "final_density": 0.03},
        ],
    }
    grow_prune = GrowPrune(model, torch.optim.SGD(model.parameters(), 0.1), Plan.from_dict(plan))

    def counts():
        return [int(mask.sum()) for mask in grow_prune.masks.values()]

    assert counts() == [100, 40, 40]
    model(torch.randn(5, 10)).square().sum().backward()
    grow_prune.step()
    assert counts() == [100, 45, 60]
    grow_prune.end_epoch()
    assert counts() == [100, 3, 30]


def test_gradients_that_are_not_finite_stop_growth():
    model, grow_prune = start(growing(0.25), ONES, SOME)
    with pytest.raises(TrainingError, match=r"weight: its gradient is not finite.*max_grad_norm"):
        step(model, grow_prune, [[float("nan")] * 4] * 3)
