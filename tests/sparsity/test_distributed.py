"""Two processes with different gradients end with the same masks, bit for bit."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from growprune.sparsity import GrowPrune, Plan

PLANS = {
    "grow_by_gradient": {
        "grow": {"epochs": 1, "interval": 2, "fraction": 0.1},
        "prune": {"rounds": 2, "fraction": 0.3, "target": 10.0},
    },
    "grow_by_momentum_in_blocks": {
        "granularity": "block",
        "scope": "model",
        "grow": {"epochs": 1, "interval": 3, "fraction": 0.1, "score": "momentum"},
        "prune": {"rounds": 2, "final_density": 0.1, "tolerance": 0.1},
    },
    "rewire_by_chance": {
        "rewire": {"epochs": 1, "interval": 2, "grow_score": "random"},
        "prune": {"rounds": 2, "fraction": 0.3, "score": "random"},
    },
}


def worker(rank, folder):
    # Ranks that disagree wait for one another: an error, not a test that never ends.
    patience = timedelta(seconds=60)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, rank=rank, world_size=2, timeout=patience)
    torch.set_num_threads(1)
    for name, settings in PLANS.items():
        torch.save(_train(rank, Plan.from_dict(settings)), f"{folder}/{name}.{rank}.pt")
    torch.save(_grow_once(rank), f"{folder}/once.{rank}.pt")
    dist.destroy_process_group()
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    torch.save(threads, f"{folder}/threads.{rank}.pt")


def _train(rank, plan):
    """Each rank has its own weights, seed, batches and metrics, and no DDP."""
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 20))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    grow_prune = GrowPrune(model, optimizer, plan, seed=rank)
    masks, projected = [grow_prune.masks], []
    for _ in range(4):
        for _ in range(6):
            optimizer.zero_grad()
            model(torch.randn(4, 20)).square().sum().backward()
            grow_prune.step()
            masks.append(grow_prune.masks)
            parameters = dict(model.named_parameters())
            projected += [
                bool((parameters[name][~mask] == 0).all()) for name, mask in masks[-1].items()
            ]
        # Rank 0 misses at the end of the first round, rank 1 would not.
        grow_prune.end_epoch([5.0, 50.0][grow_prune.round % 2] if rank == 0 else 1.0)
        masks.append(grow_prune.masks)
    return {
        "masks": masks,
        "projected": projected,
        "events": [event["event"] for event in grow_prune.history],
        "weights": model.state_dict(),
    }


def _grow_once(rank):
    """Rank 0 alone would grow its first dormant connection; the mean of both, the last one."""
    model = nn.Linear(8, 1, bias=False)
    plan = Plan.from_dict({"grow": {"epochs": 1, "interval": 1, "fraction": 0.125}})
    grow_prune = GrowPrune(model, torch.optim.SGD(model.parameters(), 0.1), plan)
    dormant = (~grow_prune.masks["weight"][0]).nonzero().flatten().tolist()
    gradient = torch.zeros(1, 8)
    # Means: 0.5 for the first, (3 - 4) / 2 for the second, 0.75 for the last.
    gradient[0, dormant[0]] = 1.0 - rank
    gradient[0, dormant[1]] = 3.0 if rank == 0 else -4.0
    gradient[0, dormant[-1]] = 1.5 * rank
    model.weight.grad = gradient
    grow_prune.step()
    return {"dormant": dormant, "mask": grow_prune.masks["weight"][0]}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(worker, args=(str(folder),), nprocs=2)
    return {
        name: [torch.load(folder / f"{name}.{rank}.pt", weights_only=True) for rank in range(2)]
        for name in [*PLANS, "once", "threads"]
    }


def test_signed_gradients_are_averaged_over_the_ranks(ranks):
    for result in ranks["once"]:
        assert [bool(result["mask"][i]) for i in result["dormant"]] == [False] * 3 + [True]


@pytest.mark.parametrize("name", PLANS)
def test_masks_are_identical_on_both(ranks, name):
    first, second = ranks[name]
    assert len(first["masks"]) == len(second["masks"]) == 1 + 4 * 7
    for ours, theirs in zip(first["masks"], second["masks"], strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert len(first["projected"]) == 4 * 6 * 2
    assert all(first["projected"] + second["projected"])
    # The weights really were different, so the agreement is not for want of a difference.
    weights = first["weights"]["0.weight"], second["weights"]["0.weight"]
    assert not torch.equal(*weights)


def test_rank_zero_decides_about_the_target(ranks):
    expected = ["seed", *["grow"] * 3, "prune", "miss", "rollback", "retrain"]
    assert [result["events"] for result in ranks["grow_by_gradient"]] == [expected] * 2


def test_no_thread_of_the_group_outlives_it(ranks):
    for threads in ranks["threads"]:
        assert threads
        assert not [name for name in threads if "gloo" in name]
