import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from growprune.errors import CheckpointError, DataError, RecipeError, TrainingError
from growprune.sparsity import GrowPrune
from growprune.training import load_weights, loop, train

sys.path.insert(0, str(Path(__file__).parent))
from toy import ToyTask, toy_recipe

TOY = Path(__file__).parent / "toy.py"


def run_toy(folder, delay=0.0, checkpoint_minutes=0.0, launcher=(sys.executable,)):
    command = [*launcher, str(TOY), str(folder), str(delay), str(checkpoint_minutes)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


def test_a_run_learns_and_leaves_weights_masks_and_a_record(tmp_path):
    record = train(ToyTask(toy_recipe()), tmp_path, seed=1)
    curve = record["epochs"]
    assert [entry["phase"] for entry in curve] == [
        "grow", "grow", "prune", "prune", "shift", "retrain",
    ]  # fmt: skip
    assert curve[-1]["dev_error"] < 0.5 * curve[0]["dev_error"]
    assert record == json.loads((tmp_path / "record.json").read_text())
    assert record["scores"]["dev"]["error"] == pytest.approx(curve[-1]["dev_error"], rel=1e-6)
    weights = load_weights(tmp_path)
    for name, mask in weights.masks.items():
        assert not weights.tensors[name][~mask].any()
    active = {row["name"]: row["active"] for row in record["matrices"]}
    assert active == {name: int(mask.sum()) for name, mask in weights.masks.items()}
    assert sum(active.values()) == curve[-1]["active"]
    assert weights.negative_slopes == {"1": 0.0}


@pytest.mark.parametrize("final_epochs", [0, 1])
def test_a_dense_run_equals_a_plain_torch_loop(tmp_path, final_epochs):
    settings = {"learning_rate": 0.02, "weight_decay": 0.01, "final_epochs": final_epochs}
    recipe = toy_recipe(False, epochs=2, optimizer=settings)
    task = ToyTask(recipe, seed=5)
    train(task, tmp_path, seed=5)

    from growprune.training.loop import build_optimizer, seed_step
    from growprune.training.schedule import learning_rate

    torch.manual_seed(5)
    model = task.build_model()
    optimizer = build_optimizer(model, recipe.training.optimizer)
    for epoch in range(2):
        if epoch == 2 - final_epochs:
            optimizer = build_optimizer(model, recipe.training.optimizer)
        for step, examples in enumerate(task.batches(epoch)):
            seed_step(5, epoch, step, 0)
            optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = learning_rate(
                recipe.training.optimizer, epoch * 8 + step, 8, 2
            )
            optimizer.zero_grad()
            task.loss(model, task.load(examples, epoch), torch.device("cpu")).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    saved = load_weights(tmp_path).tensors
    for name, tensor in model.state_dict().items():
        assert torch.equal(saved[name], tensor), name


def weights_after_every_step(monkeypatch, grow_and_prune):
    """Fills, while a run goes on, with its model's parameters by name, in float64."""
    seen, model = [], {}
    stepper = GrowPrune if grow_and_prune else torch.optim.AdamW
    step, build = stepper.step, ToyTask.build_model

    def stepped(self):
        step(self)
        seen.append({n: p.detach().double() for n, p in model["built"].named_parameters()})

    def built(self):
        model["built"] = build(self)
        return model["built"]

    monkeypatch.setattr(stepper, "step", stepped)
    monkeypatch.setattr(ToyTask, "build_model", built)
    return seen


def mean(seen):
    return {name: sum(weights[name] for weights in seen) / len(seen) for name in seen[0]}


def error_of(task, weights, slope):
    """What `task` scores on dev with these weights, computed without its model."""
    x = task.inputs.double() @ weights["0.weight"].T + weights["0.bias"]
    x = torch.nn.functional.leaky_relu(x, slope) @ weights["3.weight"].T + weights["3.bias"]
    return float((x - task.targets).square().mean())


@pytest.mark.parametrize("grow_and_prune", [False, True])
def test_the_last_epochs_are_scored_and_kept_by_the_mean_of_every_step(
    tmp_path, monkeypatch, grow_and_prune
):
    seen = weights_after_every_step(monkeypatch, grow_and_prune)
    task = ToyTask(toy_recipe(grow_and_prune, average_epochs=2))
    record = train(task, tmp_path)
    assert len(seen) == 6 * 8
    weights = load_weights(tmp_path)
    for name, wanted in mean(seen[32:]).items():
        torch.testing.assert_close(weights.tensors[name].double(), wanted, rtol=1e-6, atol=1e-8)
        assert (weights.tensors[name] - seen[-1][name]).abs().max() > 1e-3
    for name, mask in weights.masks.items():
        assert not mask.all()
        assert not weights.tensors[name][~mask].any()
    slope = 0.0 if grow_and_prune else 0.01  # the plan's shift comes after epoch 4
    used = [(seen[31:32], 0.01), (seen[32:40], slope), (seen[32:48], slope)]  # in epochs 4 to 6
    for entry, (samples, slope) in zip(record["epochs"][3:], used, strict=True):
        wanted = error_of(task, mean(samples), slope)
        assert entry["dev_error"] == pytest.approx(wanted, rel=1e-5), entry["epoch"]
    assert record["scores"]["dev"]["error"] == record["epochs"][-1]["dev_error"]
    assert record["recipe"]["training"]["average_epochs"] == 2


@pytest.mark.parametrize("grow_and_prune", [False, True])
def test_averaging_leaves_the_training_as_it_is(tmp_path, grow_and_prune):
    saved = []
    for averaged in (0, 2):
        train(
            ToyTask(toy_recipe(grow_and_prune, average_epochs=averaged)), tmp_path / f"{averaged}"
        )
        saved.append(torch.load(tmp_path / f"{averaged}" / "checkpoint.pt", weights_only=True))
    assert saved[0]["average"] == {}
    assert saved[1]["average"]["n_averaged"] == 16
    for name, tensor in saved[0]["model"].items():
        assert torch.equal(tensor, saved[1]["model"][name]), name
    losses = [[entry["train_loss"] for entry in run["state"]["curves"]] for run in saved]
    assert losses[0] == losses[1]
    kept = load_weights(tmp_path / "0").tensors
    assert all(torch.equal(tensor, kept[name]) for name, tensor in saved[0]["model"].items())


@pytest.mark.parametrize("grow_and_prune", [False, True])
def test_final_epochs_begin_from_the_mean(tmp_path, monkeypatch, grow_and_prune):
    seen = weights_after_every_step(monkeypatch, grow_and_prune)
    still = {"learning_rate": 0.02, "final_scale": 0.0, "final_epochs": 1}
    task = ToyTask(toy_recipe(grow_and_prune, average_epochs=1, optimizer=still))
    record = train(task, tmp_path)
    weights = load_weights(tmp_path).tensors
    for name, wanted in mean(seen[32:40]).items():  # epoch 5
        torch.testing.assert_close(weights[name].double(), wanted, rtol=1e-6, atol=1e-8)
        assert torch.equal(weights[name], seen[-1][name])
        assert (weights[name] - seen[39][name]).abs().max() > 1e-4
    assert record["epochs"][4]["dev_error"] == record["epochs"][5]["dev_error"]


def test_the_best_mean_is_kept_when_asked(tmp_path, monkeypatch):
    seen = weights_after_every_step(monkeypatch, False)
    task = ToyTask(toy_recipe(False, keep="best", average_epochs=3))
    errors = [5.0, 3.0, 4.0, 2.0, 1.0, 6.0, 1.0]
    monkeypatch.setattr(task, "evaluate", lambda *_: {"loss": 0.0, "error": errors.pop(0)})
    train(task, tmp_path)
    kept = load_weights(tmp_path).tensors
    for name, wanted in mean(seen[24:40]).items():  # epochs 4 and 5
        torch.testing.assert_close(kept[name].double(), wanted, rtol=1e-6, atol=1e-8)


# Steps of epoch 4 and 6, the first and the last of epoch 5; 8 make an epoch.
@pytest.mark.parametrize("step", [30, 32, 33, 39, 40, 45])
@pytest.mark.parametrize(("grow_and_prune", "final"), [(False, 0), (True, 0), (True, 1)])
def test_a_mean_under_way_is_resumed_bit_for_bit(tmp_path, step, grow_and_prune, final):
    recipe = toy_recipe(
        grow_and_prune,
        average_epochs=2 - final,
        checkpoint_minutes=0.0,
        optimizer={"learning_rate": 0.02, "final_scale": 0.1, "final_epochs": final},
    )
    train(ToyTask(recipe), tmp_path / "whole")
    with pytest.raises(TrainingError, match=f"epoch {step // 8 + 1}, step {step % 8 + 1} "):
        train(ToyTask(recipe, poison=step), tmp_path / "stopped")
    train(ToyTask(recipe), tmp_path / "stopped", resume=True)
    whole, stopped = (
        load_file(tmp_path / run / "weights.safetensors") for run in ("whole", "stopped")
    )
    assert whole.keys() == stopped.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, stopped[name]), name


def test_batch_norm_is_not_averaged(tmp_path):
    class Normed(ToyTask):
        def build_model(self):
            return torch.nn.Sequential(*super().build_model(), torch.nn.BatchNorm1d(4))

    with pytest.raises(RecipeError, match=r"average_epochs is set, but 4 is a batch norm"):
        train(Normed(toy_recipe(False, average_epochs=1)), tmp_path)
    train(Normed(toy_recipe(False)), tmp_path)


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.2])
def test_killed_and_resumed_ends_with_the_same_weights_bit_for_bit(tmp_path, seconds):
    finish(run_toy(tmp_path / "whole"))
    process = run_toy(tmp_path / "killed", delay=0.03)
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    limit = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (tmp_path / "killed" / "record.json").exists()
    finish(run_toy(tmp_path / "killed"))
    whole = load_file(tmp_path / "whole" / "weights.safetensors")
    killed = load_file(tmp_path / "killed" / "weights.safetensors")
    assert whole.keys() == killed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, killed[name]), name
    curves = [
        [
            {key: value for key, value in entry.items() if key != "seconds"}
            for entry in json.loads((tmp_path / name / "record.json").read_text())["epochs"]
        ]
        for name in ("whole", "killed")
    ]
    assert curves[0] == curves[1]


def test_two_processes_train_one_model(tmp_path):
    port = 29000 + os.getpid() % 2000
    launcher = (
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
        "--master-addr=127.0.0.1", f"--master-port={port}",
    )  # fmt: skip
    finish(run_toy(tmp_path, launcher=launcher))
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["hardware"]["processes"] == 2
    assert record["epochs"][-1]["dev_error"] < record["epochs"][0]["dev_error"]
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["average"]["n_averaged"] == 2 * 4
    kept = load_weights(tmp_path)
    for name, tensor in kept.tensors.items():
        assert torch.equal(tensor, saved["average"][f"module.{name}"]), name
    for name, mask in kept.masks.items():
        assert not kept.tensors[name][~mask].any()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    task = ToyTask(toy_recipe(), poison=11)
    with pytest.raises(TrainingError, match=r"loss is nan at epoch 2, step 4 \(examples \["):
        train(task, tmp_path)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["state"]["epoch"] == 1
    assert all(tensor.isfinite().all() for tensor in saved["model"].values())
    assert train(ToyTask(toy_recipe()), tmp_path, resume=True)["epochs"][-1]["epoch"] == 6


def test_weights_that_are_not_finite_stop_the_run_before_dev_is_scored(tmp_path):
    class Breaking(ToyTask):
        def loss(self, model, batch, device):
            loss = super().loss(model, batch, device)
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 16:
                list(model.parameters())[-1].data.fill_(float("nan"))
            return loss

        def evaluate(self, model, split, device):
            assert all(parameter.isfinite().all() for parameter in model.parameters())
            return super().evaluate(model, split, device)

    with pytest.raises(TrainingError, match=r"weights of 3.bias are not finite; the last good"):
        train(Breaking(toy_recipe()), tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]["epoch"] == 1


def test_a_run_from_before_a_setting_was_added_goes_on(tmp_path):
    whole = train(ToyTask(toy_recipe()), tmp_path / "whole")
    with pytest.raises(TrainingError):
        train(ToyTask(toy_recipe(), poison=20), tmp_path / "old")
    path = tmp_path / "old" / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    del saved["recipe"]["training"]["average_epochs"], saved["average"]
    torch.save(saved, path)
    found = train(ToyTask(toy_recipe()), tmp_path / "old", resume=True)
    assert found["epochs"][-1]["dev_loss"] == whole["epochs"][-1]["dev_loss"]
    del found["recipe"]["training"]["average_epochs"]
    (tmp_path / "old" / "record.json").write_text(json.dumps(found))
    assert train(ToyTask(toy_recipe()), tmp_path / "old", resume=True) == found


def test_best_weights_are_kept_when_asked(tmp_path):
    class Worsening(ToyTask):
        def evaluate(self, model, split, device):
            return {"loss": 0.0, "error": self.errors.pop(0)}

    recipe = toy_recipe(False, keep="best")
    task = Worsening(recipe)
    task.errors = [5.0, 3.0, 1.0, 2.0, 4.0, 6.0, 9.0]
    train(task, tmp_path / "best")
    task = Worsening(toy_recipe(False, keep="last"))
    task.errors = [5.0, 3.0, 1.0, 2.0, 4.0, 6.0, 9.0]
    train(task, tmp_path / "last")
    best = load_weights(tmp_path / "best").tensors["0.weight"]
    last = load_weights(tmp_path / "last").tensors["0.weight"]
    assert not torch.equal(best, last)
    assert torch.load(tmp_path / "best" / "checkpoint.pt", weights_only=True)["state"]["best"] == 1


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    train(ToyTask(toy_recipe()), tmp_path)
    with pytest.raises(CheckpointError, match="already holds a run"):
        train(ToyTask(toy_recipe()), tmp_path)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    with pytest.raises(TrainingError):
        train(ToyTask(toy_recipe(), poison=9), tmp_path)
    with pytest.raises(CheckpointError, match="another recipe or seed"):
        train(ToyTask(toy_recipe(epochs=7)), tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="another recipe or seed"):
        train(ToyTask(toy_recipe()), tmp_path, seed=1, resume=True)


def test_a_finished_run_of_another_recipe_or_seed_is_not_passed_off_as_this_one(tmp_path):
    record = train(ToyTask(toy_recipe()), tmp_path)
    assert train(ToyTask(toy_recipe()), tmp_path, resume=True) == record
    with pytest.raises(CheckpointError, match="another recipe or seed"):
        train(ToyTask(toy_recipe(epochs=7)), tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="another recipe or seed"):
        train(ToyTask(toy_recipe()), tmp_path, seed=1, resume=True)


def test_a_resumed_run_clears_what_was_half_written_when_it_was_killed(tmp_path):
    with pytest.raises(TrainingError):
        train(ToyTask(toy_recipe(), poison=9), tmp_path)
    (tmp_path / ".checkpoint.pt.ab_12.pt").write_bytes(b"half")
    train(ToyTask(toy_recipe()), tmp_path, resume=True)
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names == {"checkpoint.pt", "weights.safetensors", "record.json", "tensorboard"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(DataError, match="cannot be written"):
            train(ToyTask(toy_recipe()), out)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("")
    with pytest.raises(DataError, match="tensorboard: cannot be written"):
        train(ToyTask(toy_recipe()), tmp_path / "run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is such a device here")
def test_an_accelerator_that_is_not_there_is_named(tmp_path):
    recipe = toy_recipe()
    training = recipe.training.model_copy(update={"accelerator": "cuda"})
    task = ToyTask(recipe.model_copy(update={"training": training}))
    with pytest.raises(TrainingError, match=r"training\.accelerator is 'cuda'"):
        train(task, tmp_path)


@pytest.mark.parametrize("stop", [None, 2, 6])
def test_patience_ends_a_run_that_gets_no_better(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(loop, "_SAVING_SHARE", math.inf)  # a checkpoint after every epoch
    errors = [5.0, 3.0, 4.0, 3.0, 2.0, 2.5, 2.0, 9.0]
    task = ToyTask(toy_recipe(False, epochs=12, keep="best", patience=3))
    scored = []

    def evaluate(model, split, device):
        if stop is not None and len(scored) == stop:
            scored.append(None)
            raise KeyboardInterrupt
        scored.append(errors[sum(error is not None for error in scored) % len(errors)])
        return {"loss": scored[-1], "error": scored[-1]}

    monkeypatch.setattr(task, "evaluate", evaluate)
    if stop is not None:
        with pytest.raises(KeyboardInterrupt):
            train(task, tmp_path)
    curve = train(task, tmp_path, resume=True)["epochs"]
    assert [entry["dev_error"] for entry in curve] == errors


def test_checkpoints_after_short_epochs_are_few(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_SAVING_SHARE", 1e-9)
    saved = []
    monkeypatch.setattr(loop.checkpoint, "save_checkpoint", lambda _, state: saved.append(state))
    train(ToyTask(toy_recipe(False, epochs=4)), tmp_path)
    assert [state["state"]["epoch"] for state in saved] == [1, 4]


def test_batches_for_a_gpu_come_in_their_order(tmp_path):
    task = ToyTask(toy_recipe(False, epochs=1))
    trainer = loop._Trainer(task, tmp_path, 0, Console(quiet=True))
    trainer.fabric = SimpleNamespace(device=torch.device("cuda"))
    for count in (1, 4, 9):
        steps = [[step % 3, 1] for step in range(count)]
        loaded = list(trainer._loaded(steps))
        for batch, examples in zip(loaded, steps, strict=True):
            torch.testing.assert_close(batch, task.load(examples, 0))


def test_pruning_is_not_cut_short_by_patience(tmp_path, monkeypatch):
    task = ToyTask(toy_recipe(epochs=8, keep="best", patience=1))
    monkeypatch.setattr(task, "evaluate", lambda model, split, device: {"loss": 1, "error": 1})
    phases = [entry["phase"] for entry in train(task, tmp_path)["epochs"]]
    assert phases == ["grow", "grow", "prune", "prune", "shift", "retrain"]
