"""The walk through a plan: which phase comes when, targets, rollback, shift."""

import copy

import pytest
import torch
from torch import nn

from growprune.native.training import active_of
from growprune.nn import HLSTM
from growprune.sparsity import GrowPrune, Plan


class Network(nn.Module):
    """Linear, batch norm (it has buffers), leaky ReLU."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 20)
        self.norm = nn.BatchNorm1d(20)
        self.act = nn.LeakyReLU(0.01)
        self.last = nn.Linear(20, 5)

    def forward(self, x):
        return self.last(self.act(self.norm(self.first(x))))


def build(plan, seed=0):
    torch.manual_seed(seed)
    model = Network()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    return GrowPrune(model, optimizer, Plan.from_dict(plan))


def train_epoch(grow_prune, steps=4):
    for _ in range(steps):
        grow_prune.optimizer.zero_grad()
        grow_prune.model(torch.randn(8, 6)).square().sum().backward()
        grow_prune.step()


def walk(grow_prune, metrics):
    """(phase, round, active) as each epoch begins."""
    seen = []
    for metric in metrics:
        seen.append((grow_prune.phase, grow_prune.round, grow_prune.active()))
        train_epoch(grow_prune)
        grow_prune.end_epoch(metric)
    seen.append((grow_prune.phase, grow_prune.round, grow_prune.active()))
    return seen


def everything(model, optimizer):
    tensors = list(model.state_dict().values())
    for state in optimizer.state.values():
        tensors += list(state.values())
    return [tensor.clone() for tensor in tensors]


PLAN = {
    "seed_density": 0.5,
    "grow": {"epochs": 2, "interval": 4, "fraction": 0.1},
    "prune": {"rounds": 2, "fraction": 0.2, "retrain_epochs": 2, "target": 10.0},
    "shift": {"epochs": 1},
}


def test_whole_cycle_when_the_target_holds():
    grow_prune = build(PLAN)
    assert grow_prune.plan.epochs == 7
    # 220 connections: 110, +22 per growth (once an epoch), 12 + 10 of 60 + 50 at the seed.
    assert walk(grow_prune, [99.0, 99.0, 99.0, 10.0, 99.0, 9.0, 99.0, None]) == [
        ("grow", 0, 110),
        ("grow", 0, 132),
        ("prune", 1, 154 - 17 - 14),
        ("prune", 1, 123),
        ("prune", 2, 123 - 13 - 11),
        ("prune", 2, 99),
        ("shift", 2, 99),
        ("retrain", 2, 99),
        ("retrain", 2, 99),
    ]
    assert grow_prune.is_done
    assert [(event["event"], event["epoch"]) for event in grow_prune.history] == [
        ("seed", 0),
        ("grow", 0),
        ("grow", 1),
        ("prune", 2),
        ("prune", 4),
        ("shift", 6),
        ("retrain", 7),
    ]
    last = grow_prune.history[-1]
    assert last == {"event": "retrain", "step": 28, "epoch": 7, "active": 99, "density": 0.45}


def test_missed_target_rolls_back_to_the_last_model_that_held_it():
    grow_prune = build(PLAN)
    model, optimizer = grow_prune.model, grow_prune.optimizer
    for metric in [50.0, 50.0, 50.0]:
        train_epoch(grow_prune)
        grow_prune.end_epoch(metric)
    train_epoch(grow_prune)
    held, masks = everything(model, optimizer), grow_prune.masks
    grow_prune.end_epoch(9.0)
    assert (grow_prune.phase, grow_prune.round) == ("prune", 2)
    train_epoch(grow_prune)
    grow_prune.end_epoch(50.0)
    train_epoch(grow_prune)
    optimizer.param_groups[0]["lr"] = 0.005
    grow_prune.end_epoch(10.1)

    assert (grow_prune.phase, grow_prune.round) == ("shift", 2)
    assert all(torch.equal(mask, masks[name]) for name, mask in grow_prune.masks.items())
    restored = everything(model, optimizer)
    assert len(restored) == len(held) > 20
    assert all(torch.equal(now, then) for now, then in zip(restored, held, strict=True))
    assert optimizer.param_groups[0]["lr"] == 0.005
    assert [event["event"] for event in grow_prune.history[-3:]] == ["miss", "rollback", "shift"]
    train_epoch(grow_prune)
    assert all((model.first.weight[~mask] == 0).all() for mask in [masks["first.weight"]])


def test_first_miss_returns_to_the_grown_model():
    grow_prune = build(PLAN | {"shift": None})
    walk(grow_prune, [50.0])
    train_epoch(grow_prune)
    held = everything(grow_prune.model, grow_prune.optimizer)
    grow_prune.end_epoch(50.0)
    walk(grow_prune, [50.0, 50.0])
    assert (grow_prune.phase, grow_prune.active()) == ("retrain", 154)
    restored = everything(grow_prune.model, grow_prune.optimizer)
    assert all(torch.equal(now, then) for now, then in zip(restored, held, strict=True))


def test_going_on_after_a_miss():
    plan = copy.deepcopy(PLAN)
    plan["prune"]["on_miss"] = "continue"
    grow_prune = build(plan)
    seen = walk(grow_prune, [50.0] * 7)
    assert seen[-1] == ("retrain", 2, 99)
    assert [event["event"] for event in grow_prune.history].count("miss") == 2


def test_tolerance_is_relative_to_the_end_of_growth():
    plan = copy.deepcopy(PLAN)
    plan["prune"] = {"rounds": 3, "fraction": 0.1, "tolerance": 0.1, "mode": "max"}
    phases = [phase for phase, _, _ in walk(build(plan), [50.0, 80.0, 72.0, 71.9])]
    assert phases == ["grow", "grow", "prune", "prune", "shift"]


def test_metric_is_asked_for_where_it_is_needed_and_nothing_has_happened_then():
    plan = copy.deepcopy(PLAN)
    plan["prune"] = {"rounds": 1, "fraction": 0.1, "tolerance": 0.1}
    grow_prune = build(plan)
    grow_prune.end_epoch()
    with pytest.raises(ValueError, match="needs the metric in the last epoch of this grow phase"):
        grow_prune.end_epoch()
    assert (grow_prune.phase, grow_prune.epoch) == ("grow", 1)
    grow_prune.end_epoch(5.0)
    assert (grow_prune.phase, grow_prune.epoch) == ("prune", 2)
    with pytest.raises(ValueError, match="needs the metric"):
        grow_prune.end_epoch()
    grow_prune.end_epoch(5.5)
    assert grow_prune.phase == "shift"


def test_without_a_target_no_metric_is_needed():
    plan = copy.deepcopy(PLAN)
    del plan["prune"]["target"]
    assert walk(build(plan), [None] * 7)[-1] == ("retrain", 2, 99)


def test_pruning_alone_begins_at_construction():
    grow_prune = build({"seed_density": 1.0, "prune": {"rounds": 1, "final_density": 0.25}})
    assert (grow_prune.phase, grow_prune.round, grow_prune.active()) == ("prune", 1, 55)
    grow_prune.end_epoch()
    assert grow_prune.is_done


def test_empty_plan_trains_at_the_seed_density():
    grow_prune = build({"seed_density": 0.5})
    assert (grow_prune.phase, grow_prune.plan.epochs) == ("retrain", 0)
    assert walk(grow_prune, [None] * 2) == [("retrain", 0, 110)] * 3


@pytest.mark.parametrize("grow_score", ["gradient", "momentum", "random"])
def test_rewiring_keeps_every_count_and_moves_connections(grow_score):
    plan = {
        "seed_density": 0.3,
        "rewire": {"epochs": 3, "interval": 2, "fraction": 0.3, "grow_score": grow_score},
    }
    grow_prune = build(plan)
    densities = grow_prune.densities()
    for _ in range(3):
        before = grow_prune.masks
        train_epoch(grow_prune)
        assert grow_prune.densities() == densities
        assert any(not torch.equal(mask, before[n]) for n, mask in grow_prune.masks.items())
        for name, mask in grow_prune.masks.items():
            assert (dict(grow_prune.model.named_parameters())[name][~mask] == 0).all()
        grow_prune.end_epoch()
    assert grow_prune.phase == "retrain"
    before = grow_prune.masks
    train_epoch(grow_prune)
    assert all(torch.equal(mask, before[name]) for name, mask in grow_prune.masks.items())


def test_annealed_rewiring_moves_fewer_and_fewer():
    plan = {"seed_density": 0.5, "rewire": {"epochs": 4, "interval": 4, "anneal": "cosine"}}
    grow_prune = build(plan)
    moved = []
    for _ in range(4):
        before = grow_prune.masks["first.weight"]
        train_epoch(grow_prune)
        moved.append(int((before & ~grow_prune.masks["first.weight"]).sum()))
        grow_prune.end_epoch()
    # 60 active of 120: 0.3, 0.256, 0.15, 0.044 of them.
    assert moved == [18, 15, 9, 3]


def test_shift_sets_every_slope_when_its_phase_begins():
    model = nn.ModuleDict({"rnn": HLSTM(3, 4, gate_hidden_sizes=(5,)), "act": nn.LeakyReLU(0.2)})
    plan = {
        "grow": {"epochs": 1, "fraction": 0.0},
        "prune": {"rounds": 1, "fraction": 0.1},
        "shift": {"epochs": 1, "negative_slope": 0.001},
    }
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    grow_prune = GrowPrune(model, optimizer, Plan.from_dict(plan))

    def slopes():
        return model["rnn"].negative_slope, model["act"].negative_slope

    grow_prune.end_epoch()
    assert slopes() == (0.01, 0.2)
    grow_prune.end_epoch()
    assert (grow_prune.phase, slopes()) == ("shift", (0.001, 0.001))
    grow_prune.end_epoch()
    assert (grow_prune.phase, slopes()) == ("retrain", (0.001, 0.001))


def test_shift_needs_something_to_shift():
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"no submodule has a negative_slope.*\[shift\]"):
        GrowPrune(
            model,
            torch.optim.SGD(model.parameters(), 0.1),
            Plan.from_dict({"shift": {"epochs": 1}}),
        )


@pytest.mark.parametrize(("every", "grown"), [(1, [1, 2]), (2, [2, 3]), (4, [0, 3])])
def test_growth_sees_the_gradients_of_the_steps_that_gather_them(every, grown):
    model = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    growth = {"epochs": 1, "interval": 4, "fraction": 0.5, "gather_every": every}
    grow_prune = GrowPrune(model, optimizer, Plan(seed_density=0.01, grow=growth))
    for gradient in ([0, 9, 0, 0], [0, 0, 8, 3], [0, 9, 0, 0], [4, 0, 0, 3.5]):
        noted = active_of(model.weight)
        assert noted.all_gradients == (grow_prune.steps % every == every - 1)
        model.weight.grad = torch.tensor([gradient], dtype=torch.float32)
        grow_prune.step()
    assert grow_prune.masks["weight"].nonzero()[:, 1].tolist() == grown
