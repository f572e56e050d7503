"""The training loop: walks a recipe's epochs, lets `GrowPrune` step, keeps what was reached.

Batches, augmentation and dropout depend on (seed, epoch, step) alone, never on what ran before, so
a run that was killed goes on from its last checkpoint to the same weights, bit for bit on a CPU.
"""

import gc
import hashlib
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_swa_multi_avg_fn

from growprune.errors import CheckpointError, RecipeError, TrainingError
from growprune.files import clear_leftovers, make_folder
from growprune.sparsity import GrowPrune
from growprune.training import checkpoint, record
from growprune.training.curves import Curves
from growprune.training.recipe import OptimizerSettings, Recipe
from growprune.training.schedule import learning_rate
from growprune.training.task import Batch, Task

_SAVING_SHARE = 0.05
"""Checkpoints after epochs take at most this share of the time."""
_LOADED_AHEAD = 4
"""Batches that wait for a GPU."""


@dataclass
class State:
    """How far a run has come; everything else follows from it and the seed."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Finished steps of the epoch under way."""
    loss_sum: float = 0.0
    """Sum of the losses of those steps."""
    seconds: float = 0.0
    """Wall-clock time spent so far, over all starts."""
    epoch_seconds: float = 0.0
    best: float | None = None
    """Best dev metric among epochs whose weights may be kept."""
    since_best: int = 0
    """Epochs since then."""
    started: str = ""
    curves: list[dict[str, Any]] = field(default_factory=list)
    """One entry for every finished epoch, as in the record."""


def train(
    task: Task,
    out: Path,
    *,
    seed: int = 0,
    resume: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train a task's model by its recipe and leave weights and record in `out`.

    Args:
        task: what to train.
        out: the run's folder; must not hold a run unless `resume`.
        seed: decides initial weights, connectivity, order, augmentation and dropout.
        resume: go on from the folder's checkpoint; a finished run is returned as it is.
        console: where progress is shown; None: nowhere.

    Returns:
        The run's record.

    Raises:
        TrainingError: the loss or a weight is not finite, or there is no such accelerator. The
            last good checkpoint is kept.
        RecipeError: weights are to be averaged of a model with batch norm.
        CheckpointError: `out` holds another run, or cannot be resumed.
        DataError: `out` cannot be written.
    """
    if resume and (out / record.FILE).is_file():
        return _finished(out, task, seed)
    _check_folder(out, resume)
    trainer = _Trainer(task, out, seed, console or Console(quiet=True))
    if resume and (out / checkpoint.CHECKPOINT).is_file():
        trainer.restore(checkpoint.load_checkpoint(out))
    result = trainer.run()
    several = trainer.fabric.world_size > 1
    del trainer
    if several:
        # The wrapped model holds the process group. Both must be gone before the interpreter
        # is, or the group's threads may abort in its last moments.
        gc.collect()
        dist.destroy_process_group()
    return result


class _Trainer:
    """One run's moving parts."""

    def __init__(self, task: Task, out: Path, seed: int, console: Console) -> None:
        self.task, self.out, self.seed = task, out, seed
        self.settings = task.recipe.training
        self.resolved = task.recipe.model_dump(mode="json")
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        self.fabric = _launch(self.settings.accelerator, self.settings.precision)
        self.chief = self.fabric.global_rank == 0
        self.console = console if self.chief else Console(quiet=True)
        torch.manual_seed(seed)
        self.model = task.build_model()
        if self.settings.average_epochs:
            _check_averageable(self.model)
        self.wrapped = self.fabric.setup_module(self.model)
        self.optimizer = build_optimizer(self.model, self.settings.optimizer)
        self.growprune = self._grow_prune()
        self.average: AveragedModel | None = None
        self.state = State(started=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        self.saved_at = time.monotonic()
        self.saving_takes = 0.0

    def _grow_prune(self) -> GrowPrune | None:
        plan = self.task.recipe.plan
        if plan is None:
            return None
        clip = self.settings.max_grad_norm
        return GrowPrune(self.model, self.optimizer, plan, seed=self.seed, max_grad_norm=clip)

    @property
    def reached(self) -> torch.nn.Module:
        """The model to score and to keep: with the mean of the weights once there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def masks(self) -> Mapping[str, torch.Tensor]:
        return self.growprune.masks if self.growprune else {}

    @property
    def phase(self) -> str:
        return self.growprune.phase if self.growprune else "dense"

    def restore(self, saved: Mapping[str, Any]) -> None:
        _check_same(saved, self.task.recipe, self.seed, self.out)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.growprune:
            self.growprune.load_state_dict(saved["growprune"])
        if saved.get("average"):  # runs had none once
            self.average = _averaging(self.model)
            self.average.load_state_dict(saved["average"])
        self.state = State(**saved["state"])

    def _worth_saving(self) -> bool:
        """Whether a finished epoch is: not where this would slow short epochs of a large model."""
        due = self.saved_at + self.saving_takes / _SAVING_SHARE
        return time.monotonic() >= due or self._is_over()

    def save(self) -> None:
        start = time.monotonic()
        if self.chief:
            state = {
                "recipe": self.resolved,
                "seed": self.seed,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "growprune": self.growprune.state_dict() if self.growprune else {},
                "average": self.average.state_dict() if self.average else {},
                "state": asdict(self.state),
            }
            checkpoint.save_checkpoint(self.out, state)
        self.saved_at = time.monotonic()
        self.saving_takes = self.saved_at - start

    def run(self) -> dict[str, Any]:
        curves = Curves(self.out / "tensorboard") if self.chief else None
        try:
            with _progress(self.console) as bars:
                bar = bars.add_task("", total=None)
                while not self._is_over():
                    self._epoch(bars, bar)
                    self._report(self.state.curves[-1], curves)
        finally:
            if curves:
                curves.close()
        return self._finish()

    def _epoch(self, bars: Progress, bar: TaskID) -> None:
        steps = self._epoch_steps()
        if self.state.step == 0:
            self._begin_epoch()
        bars.update(
            bar,
            description=f"epoch {self.state.epoch + 1}/{self.settings.epochs} {self.phase}",
            total=len(steps) * self.settings.epochs,
            completed=len(steps) * self.state.epoch + self.state.step,
        )
        clock = time.monotonic()
        for batch in self._loaded(steps[self.state.step :]):
            self.state.loss_sum += self._step(steps, batch)
            if self.average:
                self.average.update_parameters(self.model)
            self.state.step += 1
            bars.advance(bar)
            if time.monotonic() - self.saved_at > 60 * self.settings.checkpoint_minutes:
                clock = self._count_time(clock)
                self.save()
        checkpoint.check_finite(self.model.state_dict(), self.out)
        scores = self._evaluate(self.reached, "dev")
        clock = self._count_time(clock)
        self._close_epoch(len(steps), scores)
        if self._worth_saving():
            self.save()

    def _begin_epoch(self) -> None:
        """Begin the average, or the final epochs from it."""
        final, averaged = self.settings.optimizer.final_epochs, self.settings.average_epochs
        left = self.settings.epochs - self.state.epoch
        if final and left == final:
            if self.average:
                self.model.load_state_dict(self.average.module.state_dict())
                self.average = None
            self.optimizer.state.clear()
        if averaged and left == final + averaged:
            self.average = _averaging(self.model)

    def _epoch_steps(self) -> list[list[int]]:
        """This process's share of the epoch's batches; every process takes equally many."""
        world, rank = self.fabric.world_size, self.fabric.global_rank
        batches = self.task.batches(self.state.epoch)
        usable = len(batches) - len(batches) % world
        if usable == 0:
            raise TrainingError(
                f"{len(batches)} batches cannot be shared by {world} processes; "
                "use fewer processes or a smaller training.batch_size"
            )
        return [list(batch) for batch in batches[rank:usable:world]]

    def _loaded(self, examples: Sequence[list[int]]) -> Iterator[Batch]:
        """The batches; for a GPU the next ones are loaded while it computes, by a thread."""
        load = partial(self.task.load, epoch=self.state.epoch)
        if self.fabric.device.type == "cpu":
            yield from map(load, examples)
            return
        with ThreadPoolExecutor(1) as loader:
            ahead = deque(loader.submit(load, those) for those in examples[:_LOADED_AHEAD])
            for those in [*examples[_LOADED_AHEAD:], *[None] * len(ahead)]:
                batch = ahead.popleft().result()
                if those is not None:
                    ahead.append(loader.submit(load, those))
                yield batch

    def _step(self, steps: list[list[int]], batch: Batch) -> float:
        epoch, step = self.state.epoch, self.state.step
        seed_step(self.seed, epoch, step, self.fabric.global_rank)
        rate = learning_rate(
            self.settings.optimizer, epoch * len(steps) + step, len(steps), self.settings.epochs
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.wrapped.train()
        loss = self.task.loss(self.wrapped, batch, self.fabric.device)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"loss is {value} at epoch {epoch + 1}, step {step + 1} "
                f"({self.task.describe(steps[step])}); the last good checkpoint is kept in "
                f"{self.out}. Lower training.optimizer.learning_rate or training.max_grad_norm"
            )
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self._update()
        return value

    def _update(self) -> None:
        if self.growprune:
            self.growprune.step()
            return
        if self.settings.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()

    def _evaluate(self, model: torch.nn.Module, split: str) -> dict[str, float]:
        """The chief's scores, the same in every process."""
        model.eval()
        scores: dict[str, float] = {}
        if self.chief:
            with torch.inference_mode():
                scores = self.task.evaluate(model, split, self.fabric.device)
        return self.fabric.broadcast(scores)

    def _close_epoch(self, steps: int, scores: Mapping[str, float]) -> None:
        """Enter the epoch in the curves, let the plan move on, and keep the weights if due."""
        state, phase = self.state, self.phase
        metric = scores[self.task.metric]
        entry: dict[str, Any] = {
            "epoch": state.epoch + 1,
            "phase": phase,
            "seconds": round(state.epoch_seconds, 3),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": state.loss_sum / steps,
        }
        entry |= {f"dev_{name}": value for name, value in scores.items()}
        if self.growprune:
            entry |= {"density": self.growprune.density(), "active": self.growprune.active()}
        state.curves.append(entry)
        if self.growprune:
            self.growprune.end_epoch(metric)  # may roll back; changes nothing once pruning is over
        if self._worth_keeping(phase, metric):
            state.best, state.since_best = metric, 0
            if self.chief:
                checkpoint.save_weights(
                    self.out, self.reached, self.masks, self.resolved, self.task.extras
                )
        elif state.best is not None:
            state.since_best += 1
        state.epoch, state.step = state.epoch + 1, 0
        state.loss_sum = state.epoch_seconds = 0.0

    def _is_over(self) -> bool:
        patience = self.settings.patience
        out_of_patience = patience is not None and self.state.since_best >= patience
        return self.state.epoch >= self.settings.epochs or out_of_patience

    def _worth_keeping(self, phase: str, metric: float) -> bool:
        last = self.state.epoch + 1 == self.settings.epochs
        if self.settings.keep == "last":
            return last
        if phase in ("grow", "rewire", "prune") and not last:
            return False
        if self.state.best is None:
            return True
        return metric < self.state.best if self.task.mode == "min" else metric > self.state.best

    def _count_time(self, since: float) -> float:
        now = time.monotonic()
        self.state.seconds += now - since
        self.state.epoch_seconds += now - since
        return now

    def _report(self, entry: Mapping[str, Any], curves: Curves | None) -> None:
        line = _epoch_line(entry, self.settings.epochs)
        self.console.print(line, highlight=False, soft_wrap=True)
        if curves:
            curves.add(entry, self.growprune.densities() if self.growprune else {})

    def _finish(self) -> dict[str, Any]:
        """Score the kept weights on dev and write the record."""
        self.fabric.barrier()
        weights = checkpoint.load_weights(self.out)
        weights.load_into(self.model, self.out)
        scores = self._evaluate(self.model, "dev")
        result = {
            "format": record.FORMAT,
            "name": self.task.recipe.name,
            "task": self.task.recipe.task,
            "recipe": self.resolved,
            "seed": self.seed,
            **record.provenance(
                self.fabric.device, torch.get_num_threads(), self.fabric.world_size
            ),
            "started": self.state.started,
            "seconds": round(self.state.seconds, 1),
            "data": self.task.data_summary(),
            "epochs": self.state.curves,
            "matrices": record.matrices(self.model, weights.masks),
            "cost": self.task.cost(self.model, weights.masks),
            "latency": None,
            "scores": {"dev": scores},
        }
        if self.chief:
            record.write(self.out, result)
        return result


def build_optimizer(model: torch.nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The recipe's optimizer, in one pass over memory; vectors (biases, norms) are not decayed."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    rate = settings.learning_rate
    if settings.name == "sgd":
        return torch.optim.SGD(
            groups, lr=rate, momentum=settings.momentum, nesterov=settings.nesterov, fused=True
        )
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate, fused=True)


def seed_step(seed: int, epoch: int, step: int, rank: int) -> None:
    """Seed torch's generators for one step from its place in the run."""
    place = f"{seed}/{epoch}/{step}/{rank}".encode()
    torch.manual_seed(int.from_bytes(hashlib.sha256(place).digest()[:8], "big") >> 1)


def _launch(accelerator: str, precision: str) -> Fabric:
    """Fabric for this process, or for all of them where `torchrun` started several."""
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "training.accelerator is 'cuda', but torch finds no such device here; set it to 'cpu' "
            "or 'auto'"
        )
    world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    strategy = "ddp" if world * nodes > 1 else "auto"
    fabric = Fabric(
        accelerator=accelerator,
        devices=world,
        num_nodes=nodes,
        strategy=strategy,
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _averaging(model: torch.nn.Module) -> AveragedModel:
    """What takes the mean of the model's parameters over all its updates, each counting alike."""
    return AveragedModel(model, multi_avg_fn=get_swa_multi_avg_fn())


def _check_averageable(model: torch.nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            raise RecipeError(
                f"training.average_epochs is set, but {name} is a batch norm, whose running "
                "statistics would not be the averaged weights'; use layer norm or set it to 0"
            )


def _check_folder(out: Path, resume: bool) -> None:
    taken = [name for name in (checkpoint.CHECKPOINT, record.FILE) if (out / name).exists()]
    if taken and not resume:
        raise CheckpointError(
            f"{out} already holds a run ({taken[0]}); go on with --resume, or give another --out"
        )
    make_folder(out)
    for name in (checkpoint.CHECKPOINT, checkpoint.WEIGHTS, record.FILE):
        clear_leftovers(out / name)


def _finished(out: Path, task: Task, seed: int) -> dict[str, Any]:
    """The record of a run that has nothing left to do."""
    found = record.read(out)
    _check_same(found, task.recipe, seed, out)
    return found


def _check_same(saved: Mapping[str, Any], recipe: Recipe, seed: int, out: Path) -> None:
    if not recipe.is_of(saved["recipe"]) or saved["seed"] != seed:
        raise CheckpointError(
            f"{out}: its run is of another recipe or seed; resume with the same recipe, --set "
            "values and --seed, or give another --out"
        )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _epoch_line(entry: Mapping[str, Any], epochs: int) -> str:
    parts = [f"epoch {entry['epoch']:>3}/{epochs}", f"{entry['phase']:<8}"]
    parts += [f"loss {entry['train_loss']:.3f}"]
    parts += [
        f"{name.replace('_', ' ')} {value:.3f}"
        for name, value in entry.items()
        if name.startswith("dev_")
    ]
    if "density" in entry:
        parts.append(f"density {entry['density']:.3f} ({entry['active']:,} connections)")
    parts.append(f"{entry['seconds']:.1f} s")
    return "  ".join(parts)
