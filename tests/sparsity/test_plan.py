import math

import pytest
from pydantic import ValidationError

from growprune.errors import RecipeError
from growprune.sparsity import Plan, Prune
from growprune.sparsity.plan import Rewire

FULL = """
seed_density = 0.3
distribution = "erdos_renyi"
granularity = "block"
scope = "model"

[[overrides]]
pattern = "output.*"
seed_density = 1.0
final_density = 0.9

[grow]
epochs = 4
interval = 20
fraction = 0.1
score = "momentum"
max_density = 0.6

[prune]
rounds = 3
final_density = 0.1
retrain_epochs = 2
tolerance = 0.05
mode = "max"
on_miss = "continue"

[shift]
epochs = 1
"""


def test_toml_becomes_a_plan(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(FULL)
    plan = Plan.from_toml(path)
    assert plan.epochs == 4 + 3 * 2 + 1
    assert plan.overrides[0].pattern == "output.*"
    assert plan.overrides[0].max_density is None
    assert (plan.grow.interval, plan.grow.score) == (20, "momentum")
    assert (plan.prune.tolerance, plan.prune.mode, plan.prune.on_miss) == (0.05, "max", "continue")
    assert plan.shift.negative_slope == 0.0
    assert Plan.model_validate(plan.model_dump()) == plan


def test_plan_is_frozen_and_every_field_is_described():
    with pytest.raises(ValidationError, match="frozen"):
        Plan().seed_density = 0.1
    sections = ["Grow", "Override", "Prune", "Rewire", "Shift"]
    schema = Plan.model_json_schema()
    described = [schema, *(schema["$defs"][name] for name in sections)]
    fields = [field for part in described for field in part["properties"].values()]
    assert len(fields) > 30
    assert all(field["description"] for field in fields)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"seed_densty": 1}, "plan: unknown key 'seed_densty'; did you mean 'seed_density'?"),
        (
            {"grow": {"epochs": 2, "intervall": 9}},
            "plan: unknown key 'grow.intervall'; did you mean 'interval'?",
        ),
        (
            {"shift": {"epochs": 1, "xyz": 9}},
            "plan: unknown key 'shift.xyz'; known keys: epochs, negative_slope",
        ),
        (
            {"overrides": [{"pattern": "a", "final_densty": 1}]},
            "plan: unknown key 'overrides.0.final_densty'; did you mean 'final_density'?",
        ),
        ({"seed_density": 0}, "plan: 'seed_density' is 0; it should be greater than 0"),
        (
            {"seed_density": 1.5},
            "plan: 'seed_density' is 1.5; it should be less than or equal to 1",
        ),
        (
            {"grow": {"epochs": 1, "score": "magnitude"}},
            "plan: 'grow.score' is 'magnitude'; it should be 'gradient', 'momentum' or 'random'",
        ),
        ({"grow": {}}, "plan: 'grow.epochs' is missing; add it"),
        ({"grow": 3}, "plan: 'grow' is 3; it should be a table of settings"),
        (
            {"prune": {"rounds": 2}},
            "plan: 'prune': give exactly one of fraction and final_density",
        ),
        (
            {"prune": {"rounds": 2, "fraction": 0.1, "final_density": 0.1}},
            "plan: 'prune': give exactly one of fraction and final_density",
        ),
        (
            {"prune": {"rounds": 2, "fraction": 0.1, "target": 1, "tolerance": 1}},
            "plan: 'prune': give target or tolerance, not both",
        ),
        (
            {"grow": {"epochs": 1}, "rewire": {"epochs": 1}},
            "plan: give grow or rewire, not both",
        ),
        (
            {"prune": {"rounds": 1, "fraction": 0.1, "tolerance": 0.1}},
            "plan: prune.tolerance compares with the end of growth, and there is no grow or "
            "rewire phase; give prune.target instead",
        ),
        (
            {"prune": {"rounds": 1, "fraction": 0.1, "score": "momentum"}},
            "plan: prune.score='momentum' needs gradients seen before, and there is no grow or "
            "rewire phase; give 'magnitude' instead",
        ),
        (
            {"seed_density": 0.5, "grow": {"epochs": 1, "max_density": 0.4}},
            "plan: grow.max_density=0.4 is below seed_density=0.5; raise it or lower the seed",
        ),
        (
            {"rewire": {"epochs": 1, "interval": 5, "gather_every": 6}},
            "plan: gather_every=6 is longer than interval=5, so some changes would see no "
            "gradients; lower it",
        ),
        (
            {"overrides": [{"pattern": "a", "prune_fraction": 0.1, "final_density": 1}]},
            "plan: 'overrides.0': give prune_fraction or final_density, not both",
        ),
        (
            {"seed_density": 2, "scope": "layer"},
            "plan: 'seed_density' is 2; it should be less than or equal to 1 (and 1 more)",
        ),
    ],
)
def test_errors_are_one_readable_line(settings, line):
    with pytest.raises(RecipeError) as error:
        Plan.from_dict(settings)
    assert str(error.value) == line


def test_files_that_are_no_plan(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.toml: cannot be read \(No such file"):
        Plan.from_toml(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("seed_density = \n")
    with pytest.raises(RecipeError, match=r"broken\.toml: is not valid TOML: .*line 1"):
        Plan.from_toml(broken)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("seed = 1\n")
    with pytest.raises(RecipeError, match=r"wrong\.toml: unknown key 'seed'"):
        Plan.from_toml(wrong)


@pytest.mark.parametrize(
    ("settings", "metric", "reference", "held"),
    [
        ({}, 99.0, None, True),
        ({"target": 10.0}, 10.0, None, True),
        ({"target": 10.0}, 10.1, None, False),
        ({"target": 10.0, "mode": "max"}, 10.0, None, True),
        ({"target": 10.0, "mode": "max"}, 9.9, None, False),
        ({"tolerance": 0.1}, 22.0, 20.0, True),
        ({"tolerance": 0.1}, 22.1, 20.0, False),
        ({"tolerance": 0.1, "mode": "max"}, 18.0, 20.0, True),
        ({"tolerance": 0.1, "mode": "max"}, 17.9, 20.0, False),
        ({"tolerance": 0.1}, -18.0, -20.0, True),
        ({"tolerance": 0.1}, -17.9, -20.0, False),
        ({"target": 10.0}, math.nan, None, False),
        ({"target": 10.0, "mode": "max"}, math.nan, None, False),
    ],
)
def test_holding_the_target(settings, metric, reference, held):
    prune = Prune(rounds=1, fraction=0.5, **settings)
    assert prune.holds(metric, reference) is held


def test_rewiring_anneals_along_half_a_cosine():
    steady = Rewire(epochs=4, fraction=0.4)
    falling = Rewire(epochs=4, fraction=0.4, anneal="cosine")
    assert [steady.fraction_at(epoch) for epoch in range(4)] == [0.4] * 4
    expected = [0.4, 0.2 * (1 + math.sqrt(0.5)), 0.2, 0.2 * (1 - math.sqrt(0.5))]
    assert [falling.fraction_at(epoch) for epoch in range(4)] == pytest.approx(expected, rel=1e-12)


def test_only_needed_averages_are_kept():
    plan = Plan.from_dict(
        {
            "grow": {"epochs": 1, "score": "gradient"},
            "prune": {"rounds": 1, "fraction": 0.1, "score": "momentum"},
            "shift": {"epochs": 1},
        }
    )
    phases = ("grow", "prune", "shift", "retrain")
    assert [plan.averages_in(phase) for phase in phases] == [
        {"gradient", "momentum"},
        {"momentum"},
        set(),
        set(),
    ]
