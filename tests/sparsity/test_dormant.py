"""Dormant weights and what the optimizer remembers of them are exactly zero after every step."""

import copy
import math

import pytest
import torch
from torch import nn

from growprune.sparsity import GrowPrune, Plan

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, centered=True),
    "adam_foreach": lambda p: torch.optim.Adam(p, 0.01, foreach=True),
    "adam_no_foreach": lambda p: torch.optim.Adam(p, 0.01, foreach=False),
    "adam_fused": lambda p: torch.optim.Adam(p, 0.01, fused=True),
    "sgd_foreach": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, foreach=True),
    "sgd_no_foreach": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, foreach=False),
    "sgd_fused": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, fused=True),
    # These give every entry, dormant or not, a state other than zero, or divide zero by zero.
    "rprop": lambda p: torch.optim.Rprop(p, 0.01),
    "adamax": lambda p: torch.optim.Adamax(p, 0.01),
    "adam_no_eps": lambda p: torch.optim.Adam(p, 0.01, eps=0.0),
}
CYCLE = {
    "seed_density": 0.4,
    "grow": {"epochs": 1, "interval": 3, "fraction": 0.1},
    "prune": {"rounds": 1, "fraction": 0.5},
}


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 5)
        self.output = nn.Linear(5, 4)

    def forward(self, x):
        return self.output(self.rnn(x)[0][-1])


def batches(count):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield (
            torch.randn(7, 8, 6, generator=generator),
            torch.randint(4, (8,), generator=generator),
        )


def backward(model, batch):
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()


def assert_dormant_is_zero(grow_prune):
    """Look at weights and optimizer state; return how many tensors that were."""
    parameters = dict(grow_prune.model.named_parameters())
    looked_at = 0
    for name, mask in grow_prune.masks.items():
        parameter = parameters[name]
        memories = [
            value
            for value in grow_prune.optimizer.state[parameter].values()
            if value is not None and value.shape == parameter.shape
        ]
        for tensor in (parameter, *memories):
            assert (tensor[~mask] == 0).all()
            looked_at += 1
        assert (parameter[mask] != 0).any()
    return looked_at


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_whatever_the_optimizer(name, max_grad_norm):
    torch.manual_seed(0)
    model = Classifier()
    optimizer = OPTIMIZERS[name](model.parameters())
    grow_prune = GrowPrune(model, optimizer, Plan.from_dict(CYCLE), max_grad_norm=max_grad_norm)
    for number, batch in enumerate(batches(14)):
        optimizer.zero_grad(set_to_none=number % 2 == 0)
        backward(model, batch)
        grow_prune.step()
        assert assert_dormant_is_zero(grow_prune) >= 3 * 2
        if number == 9:
            active = grow_prune.active()
            grow_prune.end_epoch()
            assert grow_prune.active() < active
            assert_dormant_is_zero(grow_prune)
    assert [event["event"] for event in grow_prune.history] == ["seed", *["grow"] * 3, "prune"]
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_dense_run_is_the_plain_optimizers_bit_for_bit(name):
    torch.manual_seed(0)
    model = Classifier()
    plain = copy.deepcopy(model)
    optimizer = OPTIMIZERS[name](model.parameters())
    plain_optimizer = OPTIMIZERS[name](plain.parameters())
    plan = Plan.from_dict({"seed_density": 1.0, "grow": {"epochs": 1, "interval": 2}})
    grow_prune = GrowPrune(model, optimizer, plan, max_grad_norm=1.0)
    for batch in batches(6):
        optimizer.zero_grad()
        plain_optimizer.zero_grad()
        backward(model, batch)
        backward(plain, batch)
        grow_prune.step()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        plain_optimizer.step()
        assert grow_prune.grad_norm == norm
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["adam", "amsgrad", "adamw", "rmsprop"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_active_connections_train_as_if_the_others_were_not_there(name, dtype):
    """Against the bare optimizer on a model whose dormant entries get no gradient."""
    torch.manual_seed(0)
    model = nn.Linear(9, 7).to(dtype)
    optimizer = OPTIMIZERS[name](model.parameters())
    grow_prune = GrowPrune(model, optimizer, Plan(seed_density=0.3))
    mask = grow_prune.masks["weight"]
    plain = copy.deepcopy(model)
    plain_optimizer = OPTIMIZERS[name](plain.parameters())
    for _ in range(5):
        for p, q in zip(model.parameters(), plain.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad * mask if q.ndim == 2 else p.grad.clone()
        grow_prune.step()
        plain_optimizer.step()
    assert torch.equal(model.weight, plain.weight)
    assert torch.equal(model.bias, plain.bias)
    ours, theirs = optimizer.state[model.weight], plain_optimizer.state[plain.weight]
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_clipping_counts_active_connections_only():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    grow_prune = GrowPrune(model, optimizer, Plan(seed_density=0.25), max_grad_norm=2.5)
    mask = grow_prune.masks["weight"]
    with torch.no_grad():
        model.weight.copy_(mask.float())
        model.bias.zero_()
    model.weight.grad = torch.where(mask, 3.0, 100.0)
    model.bias.grad = torch.tensor([4.0, 0.0])
    grow_prune.step()
    assert grow_prune.grad_norm == 5.0
    # Halved to a norm of 2.5.
    assert model.weight[mask].item() == pytest.approx(1 - 1.5, rel=1e-5)
    assert model.bias.tolist() == pytest.approx([-2.0, 0.0], rel=1e-5)


def test_infinite_limit_measures_and_leaves_gradients_alone():
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    grow_prune = GrowPrune(model, optimizer, Plan(seed_density=1.0), max_grad_norm=math.inf)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    grow_prune.step()
    assert grow_prune.grad_norm == 5.0
    assert model.weight.grad.tolist() == [[3.0, 4.0]]
    with pytest.raises(ValueError, match="max_grad_norm=0; it must be above 0"):
        GrowPrune(model, optimizer, Plan(), max_grad_norm=0)


def test_missing_gradients_and_several_groups():
    model = nn.ModuleDict({"used": nn.Linear(3, 3), "unused": nn.Linear(3, 3)})
    groups = [{"params": model["used"].parameters()}, {"params": model["unused"].parameters()}]
    optimizer = torch.optim.AdamW(groups, 0.1)
    plan = Plan.from_dict(
        {"grow": {"epochs": 1, "interval": 1, "fraction": 0.2, "score": "momentum"}}
    )
    grow_prune = GrowPrune(model, optimizer, plan, max_grad_norm=1.0)
    assert [int(mask.sum()) for mask in grow_prune.masks.values()] == [5, 4]
    before = model["unused"].weight.clone()
    model["used"](torch.ones(3)).sum().backward()
    grow_prune.step()
    assert torch.equal(model["unused"].weight, before)
    assert {name: int(mask.sum()) for name, mask in grow_prune.masks.items()} == {
        "used.weight": 7,
        "unused.weight": 6,
    }


def test_accumulated_gradients_are_one_step():
    def run(parts):
        torch.manual_seed(0)
        model = Classifier().double()
        optimizer = torch.optim.AdamW(model.parameters(), 0.01)
        grow_prune = GrowPrune(model, optimizer, Plan.from_dict(CYCLE))
        for x, y in batches(4):
            optimizer.zero_grad()
            for x_part, y_part in zip(x.double().chunk(parts, 1), y.chunk(parts), strict=True):
                loss = nn.functional.cross_entropy(model(x_part), y_part, reduction="sum")
                loss.backward()
            grow_prune.step()
        return grow_prune

    whole, halves = run(1), run(2)
    assert whole.steps == halves.steps == 4
    for name, mask in whole.masks.items():
        assert torch.equal(mask, halves.masks[name])


def test_half_precision_weights_keep_their_averages_in_single():
    model = nn.Linear(4, 4, bias=False).bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    plan = Plan.from_dict({"grow": {"epochs": 1, "interval": 300, "fraction": 0.1}})
    grow_prune = GrowPrune(model, optimizer, plan)
    # 257 ones are not a bfloat16 number: sums in bfloat16 would stop at 256.
    for _ in range(257):
        model.weight.grad = torch.ones(4, 4, dtype=torch.bfloat16)
        grow_prune.step()
        assert (model.weight[~grow_prune.masks["weight"]] == 0).all()
    sums = grow_prune.state_dict()["scorer"]["averages"]["gradient"]["values"][0]
    assert sums.tolist() == [[257.0] * 4] * 4


def test_optimizer_must_hold_the_parameters():
    model = Classifier()
    optimizer = torch.optim.SGD(model.rnn.parameters(), 0.1)
    with pytest.raises(ValueError, match=r"does not hold output\.weight; build it"):
        GrowPrune(model, optimizer, Plan())
    assert GrowPrune(model, optimizer, Plan(), exclude=["output.*"]).active() == 83
