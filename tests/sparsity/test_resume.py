"""Saving at any moment and going on gives the uninterrupted run, bit for bit."""

import copy

import pytest
import torch
from torch import nn

from growprune.errors import CheckpointError
from growprune.sparsity import GrowPrune, Plan

EPOCHS, STEPS = 7, 4
GROW = {
    "seed_density": 0.4,
    "grow": {"epochs": 2, "interval": 3, "fraction": 0.05},
    # The second round misses: at the end of epoch 4 the model rolls back.
    "prune": {"rounds": 3, "fraction": 0.2, "target": 10.0},
    "shift": {"epochs": 1},
}
BY_MOMENTUM = {
    "seed_density": 0.4,
    "granularity": "block",
    "scope": "model",
    "grow": {"epochs": 2, "interval": 3, "fraction": 0.05, "score": "momentum"},
    "prune": {"rounds": 3, "fraction": 0.2, "score": "momentum", "tolerance": 10.0},
}
BY_CHANCE = {
    "rewire": {"epochs": 3, "interval": 2, "grow_score": "random", "anneal": "cosine"},
    "prune": {"rounds": 2, "final_density": 0.1, "score": "random"},
}
METRICS = [9.0, 9.0, 9.0, 11.0, 9.0, 9.0, 9.0]


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 20)
        self.act = nn.LeakyReLU(0.1)
        self.output = nn.Linear(20, 3)

    def forward(self, x):
        return self.output(self.act(self.rnn(x)[0][-1]))


def build(plan, optimizer_class=torch.optim.AdamW):
    torch.manual_seed(0)
    model = Network()
    optimizer = optimizer_class(model.parameters(), 0.01)
    return GrowPrune(model, optimizer, Plan.from_dict(plan), seed=5, max_grad_norm=1.0)


def run(grow_prune, start, stop):
    """Train steps `start` to `stop`; an epoch ends before its successor's first step."""
    for number in range(start, stop):
        if number and number % STEPS == 0:
            grow_prune.end_epoch(METRICS[number // STEPS - 1])
        torch.manual_seed(number)
        grow_prune.optimizer.zero_grad()
        grow_prune.model(torch.randn(5, 8, 6)).square().sum().backward()
        grow_prune.step()


def save(grow_prune, path):
    state = {
        "model": grow_prune.model.state_dict(),
        "optimizer": grow_prune.optimizer.state_dict(),
        "grow_prune": grow_prune.state_dict(),
    }
    torch.save(state, path)


def load(grow_prune, path):
    state = torch.load(path, weights_only=True)
    grow_prune.model.load_state_dict(state["model"])
    grow_prune.optimizer.load_state_dict(state["optimizer"])
    grow_prune.load_state_dict(state["grow_prune"])


def assert_same(ours, theirs):
    """Equal types, keys, numbers and bits."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif torch.is_tensor(ours):
        assert torch.equal(ours, theirs)
    else:
        assert ours == theirs


@pytest.mark.parametrize("plan", [GROW, BY_MOMENTUM, BY_CHANCE])
@pytest.mark.parametrize("stop", [2, 5, 11, 14, 19, 26])
def test_resumed_run_is_the_uninterrupted_one(plan, stop, tmp_path):
    whole = build(plan)
    run(whole, 0, EPOCHS * STEPS)

    first = build(plan)
    run(first, 0, stop)
    save(first, tmp_path / "checkpoint.pt")
    resumed = build(plan)
    load(resumed, tmp_path / "checkpoint.pt")
    assert_same(resumed.state_dict(), first.state_dict())
    run(resumed, stop, EPOCHS * STEPS)

    assert_same(resumed.state_dict(), whole.state_dict())
    assert_same(resumed.model.state_dict(), whole.model.state_dict())
    assert_same(resumed.optimizer.state_dict(), whole.optimizer.state_dict())
    events = {event["event"] for event in whole.history}
    assert events >= ({"grow", "rollback", "shift"} if plan is GROW else {"prune"})
    assert resumed.model.act.negative_slope == (0.0 if plan is GROW else 0.1)


def test_state_is_a_copy_that_training_leaves_alone():
    grow_prune = build(GROW)
    run(grow_prune, 0, 2)
    state = grow_prune.state_dict()
    before = copy.deepcopy(state)
    run(grow_prune, 2, 20)
    assert_same(state, before)


def test_loading_projects_and_shifts():
    source = build(GROW)
    run(source, 0, 18)
    assert source.phase == "shift"
    target = build(GROW)
    run(target, 0, 3)
    target.load_state_dict(source.state_dict())
    assert target.model.act.negative_slope == 0.0
    parameters = dict(target.model.named_parameters())
    for name, mask in source.masks.items():
        assert torch.equal(target.masks[name], mask)
        assert (parameters[name][~mask] == 0).all()
        assert (target.optimizer.state[parameters[name]]["exp_avg"][~mask] == 0).all()


def changed(state, change):
    state = copy.deepcopy(state)
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("masks"), "lacks masks; it is damaged"),
        (lambda s: s["masks"].pop("output.weight"), "masks for .*, the model for .*output"),
        (
            lambda s: s["masks"].update({"output.weight": torch.ones(2, 3).bool()}),
            r"output.weight is \(3, 20\) and the state's mask \(2, 3\) of torch.bool",
        ),
        (
            lambda s: s["masks"].update({"output.weight": torch.ones(3, 20)}),
            "of torch.float32",
        ),
        (lambda s: s.update(phase="rewire"), "in phase 'rewire'.*plan it was started with"),
        (lambda s: s["scorer"].update(averages={}), "with gradients for nothing"),
        (lambda s: s.update(negative_slopes={"x": 0.0}), "slopes of x, the model of act"),
        (
            lambda s: s["snapshot"]["parameters"].pop("output.bias"),
            "last good model has other names or shapes",
        ),
    ],
)
def test_states_that_do_not_fit_are_refused_and_nothing_changes(change, message):
    grow_prune = build(GROW | {"prune": GROW["prune"] | {"score": "momentum"}})
    run(grow_prune, 0, 9)
    state = grow_prune.state_dict()
    with pytest.raises(CheckpointError, match=message):
        grow_prune.load_state_dict(changed(state, change))
    assert_same(grow_prune.state_dict(), state)


def test_masks_of_another_granularity_are_refused():
    weights = build(BY_CHANCE)
    blocks = build({**BY_CHANCE, "granularity": "block"})
    with pytest.raises(CheckpointError, match="or not made of whole blocks"):
        blocks.load_state_dict(weights.state_dict())
