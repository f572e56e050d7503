"""`GrowPrune`: walks a model and its optimizer through a plan."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Module
from torch.optim import Optimizer

from growprune.nn import leave_out_dormant
from growprune.sparsity import distributed
from growprune.sparsity.changes import grown, pruned, regrown
from growprune.sparsity.checks import check_fit, check_state, sloped_modules
from growprune.sparsity.lent import Lender
from growprune.sparsity.masks import MaskedMatrix, lend_ones, mask_gradients, project
from growprune.sparsity.parameters import choose_parameters, owners
from growprune.sparsity.plan import Plan
from growprune.sparsity.pools import Pool, make_pools, seed_counts
from growprune.sparsity.scores import Scorer
from growprune.sparsity.selection import select, share
from growprune.sparsity.snapshot import Snapshot, restore_snapshot, take_snapshot

PHASES = ("grow", "rewire", "prune", "shift")
LEARNING = ("grow", "rewire")


class GrowPrune:
    """Grows and prunes the connections of any model while it trains.

    Call `step()` where `optimizer.step()` stood and `end_epoch()` at the end of each epoch:

        for epoch in range(grow_prune.plan.epochs):
            for batch, labels in batches:
                optimizer.zero_grad()
                loss(model(batch), labels).backward()
                grow_prune.step()
            grow_prune.end_epoch(error_rate)

    When things happen: the seed is drawn and the weights are masked at construction, in which the
    first phase begins. Growth and rewiring happen inside `step()`, after the optimizer's own
    step, every `interval` steps of their phase. All else happens inside `end_epoch()`: it ends
    the epoch, and where that ends a phase, the next begins at once: the first pruning right when
    growth ends, the next one right after `retrain_epochs` epochs and a metric that holds the
    target, the activation shift right when the last round ends. After the plan's last phase comes
    "retrain", in which connections stay as they are for as long as training goes on.

    On a CPU, HLSTM and `nn.LSTM` layers compute without the dormant connections where that is
    faster; an `nn.LSTM` gets a `forward` for it that chooses in each call (docs/performance.md).

    With gradients accumulated over several backward passes, call `step()` once, as the optimizer.
    Under `torch.distributed` build it after the process group, with the plain model rather than
    its DDP wrapper; scores are averaged over the processes and rank 0's masks and metrics count.

    Args:
        model: the network, already on its device.
        optimizer: holds the model's parameters. Its learning rates are never touched.
        plan: what to do and when.
        include: shell-style patterns on parameter names; see `choose_parameters`.
        exclude: patterns of names to leave dense.
        seed: of the random seed connectivity and the random score.
        max_grad_norm: clip the gradient norm of all the optimizer's parameters to this, counting
            active connections only; `math.inf` only measures it. None: neither.

    Attributes:
        model, optimizer, plan: as given.
        phase: "grow", "rewire", "prune", "shift" or "retrain".
        round: pruning rounds begun.
        epoch: epochs ended.
        steps: optimizer steps taken.
        grad_norm: the norm found by the last step, before clipping; None without `max_grad_norm`.
        history: what happened, as `{"event", "step", "epoch", "active", "density"}`; an event is
            "seed", "grow", "rewire", "prune", "miss", "rollback", "shift" or "retrain".

    Raises:
        ValueError: nothing to prune, a matched parameter is not the optimizer's, a shift without
            a module that has a `negative_slope`.
        RecipeError: an override of the plan matches no parameter.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        plan: Plan,
        *,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        seed: int = 0,
        max_grad_norm: float | None = None,
    ) -> None:
        parameters = choose_parameters(model, include, exclude)
        check_fit(parameters, model, optimizer, plan)
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm={max_grad_norm}; it must be above 0")
        self.model = model
        self.optimizer = optimizer
        self.plan = plan
        self.phase = "retrain"
        self.round = 0
        self.epoch = 0
        self.steps = 0
        self.grad_norm: Tensor | None = None
        self.history: list[dict[str, int | float | str]] = []
        self._max_grad_norm = max_grad_norm
        self._matrices = [
            MaskedMatrix(name, parameter, plan.granularity)
            for name, parameter in parameters.items()
        ]
        self._pools = make_pools(self._matrices, plan)
        self._scorer = Scorer(self._matrices, seed)
        self._lender = Lender(self._matrices, optimizer)
        self._phase_epochs = 0
        self._phase_steps = 0
        self._reference: float | None = None
        self._snapshot: Snapshot | None = None
        for module in owners(model, parameters.values()):
            if isinstance(module, nn.LSTM):
                leave_out_dormant(module)
        self._seed()
        self._enter(self._phase_after(None))
        self._note()

    # What it is now

    @property
    def masks(self) -> dict[str, Tensor]:
        """Bool masks by parameter name, in the parameters' shapes; copies."""
        return {matrix.name: matrix.mask for matrix in self._matrices}

    @property
    def is_done(self) -> bool:
        """Whether the plan's last phase is over."""
        return self.phase == "retrain"

    def active(self) -> int:
        """How many connections are active."""
        return sum(matrix.connections for matrix in self._matrices)

    def density(self) -> float:
        """Share of all the masked parameters' connections that is active."""
        return self.active() / sum(matrix.size for matrix in self._matrices)

    def densities(self) -> dict[str, float]:
        """Share of active connections of each parameter."""
        return {matrix.name: matrix.connections / matrix.size for matrix in self._matrices}

    # What the training loop calls

    def step(self) -> None:
        """Step the optimizer with masked gradients, keep dormant connections zero, grow when due.

        Raises:
            TrainingError: growth is due and a gradient is not finite.
        """
        if self._gathers():
            self._scorer.add_gradients()
        mask_gradients(self._matrices)
        with self._lender.lend() as rest:
            self._clip()
            lend_ones(rest, self.optimizer)
            self.optimizer.step()
        project(rest, self.optimizer)
        self.steps += 1
        self._phase_steps += 1
        if self._learning_is_due():
            if self.phase == "grow":
                self._grow()
            else:
                self._rewire()
            self._finish_change(self.phase)
        self._note()
        self._lender.keep()

    def end_epoch(self, metric: float | None = None) -> None:
        """End an epoch and, where it is the last one of its phase, begin the next phase.

        Args:
            metric: of the model as it is now, on data held out. Needed at the end of growth when
                the plan has a `tolerance`, and at the end of each pruning round when it has that
                or a `target`.

        Raises:
            ValueError: a metric is needed and missing.
        """
        metric = distributed.first_rank_metric(metric, self._matrices[0].parameter.device)
        is_last = self._phase_epochs + 1 >= self._phase_length()
        if is_last and metric is None:
            self._check_metric_not_needed()
        self.epoch += 1
        self._phase_epochs += 1
        if is_last and self.phase == "prune":
            self._end_round(metric)
        elif is_last:
            if self.phase in LEARNING:
                self._reference = metric
            self._enter(self._phase_after(self.phase))
        self._note()

    # Resuming

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly, beside the model's and the optimizer's own states.

        Made of tensors, numbers, strings, lists and dictionaries only, all of them copies.
        """
        return {
            "phase": self.phase,
            "round": self.round,
            "epoch": self.epoch,
            "steps": self.steps,
            "phase_epochs": self._phase_epochs,
            "phase_steps": self._phase_steps,
            "reference": self._reference,
            "masks": self.masks,
            "scorer": self._scorer.state_dict(),
            "negative_slopes": {n: m.negative_slope for n, m in sloped_modules(self.model).items()},
            "snapshot": copy.deepcopy(self._snapshot),
            "history": copy.deepcopy(self.history),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`, after the model and the optimizer loaded theirs.

        Build the model, the optimizer and this object first, then load all three: building this
        object draws a new seed, which zeroes weights.

        Raises:
            CheckpointError: the state is incomplete or belongs to another model or plan.
        """
        check_state(state, self.model, self.plan, self._matrices)
        for name in ("phase", "round", "epoch", "steps"):
            setattr(self, name, state[name])
        self._phase_epochs = state["phase_epochs"]
        self._phase_steps = state["phase_steps"]
        self._reference = state["reference"]
        self._snapshot = copy.deepcopy(state["snapshot"])
        self.history = copy.deepcopy(state["history"])
        self._scorer.load_state_dict(state["scorer"])
        for name, module in sloped_modules(self.model).items():
            module.negative_slope = state["negative_slopes"][name]
        for matrix in self._matrices:
            matrix.activate_mask(state["masks"][matrix.name])
        project(self._matrices, self.optimizer)
        self._note()

    # Phases

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self._phase_epochs = 0
        self._phase_steps = 0
        self._scorer.follow(self.plan.averages_in(phase))
        if phase == "prune":
            self._begin_round()
        if phase in ("shift", "retrain"):
            self._snapshot = None
            self._record(phase)
        if phase == "shift" and self.plan.shift is not None:
            for module in sloped_modules(self.model).values():
                module.negative_slope = self.plan.shift.negative_slope

    def _phase_after(self, phase: str | None) -> str:
        """The plan's next phase; its first one after None."""
        planned = [name for name in PHASES if getattr(self.plan, name) is not None]
        following = planned if phase is None else planned[planned.index(phase) + 1 :]
        return following[0] if following else "retrain"

    def _phase_length(self) -> float:
        """Epochs of the phase, or of one round of pruning."""
        if self.phase == "retrain":
            return math.inf
        section = getattr(self.plan, self.phase)
        return section.retrain_epochs if self.phase == "prune" else section.epochs

    def _learning_is_due(self) -> bool:
        section = self.plan.learning
        if section is None or self.phase not in LEARNING:
            return False
        return self._phase_steps % section.interval == 0

    def _gathers(self) -> bool:
        """Whether the coming step's gradients of dormant connections are averaged."""
        section = self.plan.learning
        if section is None or self.phase not in LEARNING:
            return self._scorer.needs_gradients
        return self._scorer.needs_gradients and (self._phase_steps + 1) % section.gather_every == 0

    def _begin_round(self) -> None:
        """Remember the model if it may be needed again, then prune it."""
        prune = self.plan.prune
        assert prune is not None
        if prune.is_judged and prune.on_miss == "rollback":
            self._snapshot = take_snapshot(self.model, self.optimizer, self._matrices)
        self._prune(prune.score, lambda pool: pool.cut(prune.rounds - self.round))
        self.round += 1
        self._phase_epochs = 0
        self._finish_change("prune")

    def _end_round(self, metric: float | None) -> None:
        prune = self.plan.prune
        assert prune is not None
        held = metric is None or prune.holds(metric, self._reference)
        if not held:
            self._record("miss")
        if not held and self._snapshot is not None:
            restore_snapshot(self._snapshot, self.model, self.optimizer, self._matrices)
            self._record("rollback")
            self._enter(self._phase_after("prune"))
        elif self.round < prune.rounds:
            self._begin_round()
        else:
            self._enter(self._phase_after("prune"))

    # Score, select, apply

    def _seed(self) -> None:
        """Draw the first connectivity."""
        counts = seed_counts(self._matrices, self.plan)
        scores = self._scorer.score("random")
        for matrix in self._matrices:
            chance = scores[matrix.name].flatten()
            active = select(chance, torch.ones_like(chance, dtype=torch.bool), counts[matrix.name])
            matrix.activate(distributed.first_rank_mask(active).reshape(matrix.active.shape))
            if self.plan.rescale_seed:
                matrix.parameter.data.mul_((matrix.size / max(1, matrix.connections)) ** 0.5)
        self._finish_change("seed")

    def _grow(self) -> None:
        grow = self.plan.grow
        assert grow is not None
        scores = self._scorer.score(grow.score)
        for pool in self._pools:
            count = pool.growth(grow.fraction, grow.max_density)
            pool.activate(grown(pool.active, pool.join(scores), count))

    def _prune(self, score: str, count: Callable[[Pool], int]) -> None:
        scores = self._scorer.score(score)
        for pool in self._pools:
            pool.activate(pruned(pool.active, pool.join(scores), count(pool)))

    def _rewire(self) -> None:
        rewire = self.plan.rewire
        assert rewire is not None
        fraction = rewire.fraction_at(self._phase_epochs)
        before = [pool.active for pool in self._pools]
        self._prune(rewire.prune_score, lambda pool: share(fraction, int(pool.active.sum())))
        # A connection that is pruned and has to come back all the same comes back at zero.
        project(self._matrices, self.optimizer)
        scores = self._scorer.score(rewire.grow_score)
        for pool, active in zip(self._pools, before, strict=True):
            pool.activate(regrown(pool.active, active, pool.join(scores)))

    def _finish_change(self, event: str) -> None:
        """Make the weights follow the masks."""
        self._scorer.restart()
        project(self._matrices, self.optimizer)
        self._record(event)

    # Details

    def _note(self) -> None:
        """Let the layers know which connections they may leave out."""
        for matrix in self._matrices:
            matrix.note(self._gathers())

    def _clip(self) -> None:
        if self._max_grad_norm is None:
            return
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.grad_norm = torch.nn.utils.clip_grad_norm_(parameters, self._max_grad_norm)

    def _record(self, event: str) -> None:
        self.history.append(
            {
                "event": event,
                "step": self.steps,
                "epoch": self.epoch,
                "active": self.active(),
                "density": self.density(),
            }
        )

    def _check_metric_not_needed(self) -> None:
        prune = self.plan.prune
        if prune is None or not prune.is_judged:
            return
        is_reference = self.phase in LEARNING and prune.tolerance is not None
        if is_reference or self.phase == "prune":
            raise ValueError(
                f"end_epoch() needs the metric in the last epoch of this {self.phase} phase or "
                "round: the plan has a target or tolerance"
            )
