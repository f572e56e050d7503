"""A task small enough to train in a test: noisy linear regression. Run as a program, it trains."""

import sys
import time
from pathlib import Path

import torch
from torch import nn

from growprune.training import Recipe, train, validate


class ToyTask:
    """64 examples of `y = A x`; dropout and per-epoch noise make every random choice count."""

    metric = "error"
    mode = "min"

    def __init__(self, recipe, seed=0, poison=None, delay=0.0):
        self.recipe, self.seed, self.poison, self.delay = recipe, seed, poison, delay
        self.extras = {}
        generator = torch.Generator().manual_seed(7)
        self.inputs = torch.randn(64, 8, generator=generator)
        self.targets = self.inputs @ torch.randn(8, 4, generator=generator)

    def build_model(self):
        return nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(), nn.Dropout(0.1), nn.Linear(16, 4))

    def batches(self, epoch):
        generator = torch.Generator().manual_seed(1000 * self.seed + epoch)
        return torch.randperm(64, generator=generator).split(self.recipe.training.batch_size)

    def load(self, examples, epoch):
        time.sleep(self.delay)
        index = torch.as_tensor(examples)
        noise = torch.randn(len(index), 8, generator=torch.Generator().manual_seed(epoch))
        return self.inputs[index] + 0.01 * noise, self.targets[index]

    def describe(self, examples):
        return f"examples {[int(number) for number in examples][:2]}"

    def loss(self, model, batch, device):
        inputs, targets = batch
        loss = (model(inputs.to(device)) - targets.to(device)).square().mean()
        if self.poison is not None:
            self.poison -= 1
            if self.poison < 0:
                return loss * float("nan")
        return loss

    def evaluate(self, model, split, device):
        assert split == "dev"
        error = (model(self.inputs.to(device)) - self.targets.to(device)).square().mean()
        return {"loss": float(error), "error": float(error)}

    def cost(self, model, masks):
        count = sum(p.numel() for p in model.parameters())
        return {"weights": {"whole": count}, "flops_per_second": {}}

    def data_summary(self):
        return {"name": "toy", "splits": {"train": {"utterances": 64, "seconds": 0.0}}}


def toy_recipe(grow_and_prune=True, **training):
    table = {
        "name": "toy",
        "task": "toy",
        "training": {
            "epochs": 6,
            "batch_size": 8,
            "max_grad_norm": 1.0,
            "threads": 1,
            "optimizer": {"learning_rate": 0.02, "weight_decay": 0.01},
        }
        | training,
        "plan": {
            "seed_density": 0.6,
            "grow": {"epochs": 2, "interval": 3, "fraction": 0.1},
            "prune": {"rounds": 2, "fraction": 0.2, "retrain_epochs": 1},
            "shift": {"epochs": 1},
        },
    }
    if not grow_and_prune:
        del table["plan"]
    return validate(Recipe, table, "toy")


if __name__ == "__main__":
    folder, delay, checkpoint_minutes = sys.argv[1:]
    recipe = toy_recipe(checkpoint_minutes=float(checkpoint_minutes), average_epochs=2)
    train(ToyTask(recipe, seed=3, delay=float(delay)), Path(folder), seed=3, resume=True)
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    left = [name for name in threads if "gloo" in name]
    sys.exit(f"threads of the process group are left: {left}" if left else 0)
