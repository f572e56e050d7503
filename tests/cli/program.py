"""Running the program within the tests' process."""

import pytest
from typer.testing import CliRunner

from growprune.cli.app import app, main

TINY = [
    "model.recurrent.hidden_size=8", "model.recurrent.gate_hidden_sizes=[8]",
    "training.epochs=4", "training.threads=1", "plan.grow.epochs=1", "plan.grow.interval=2",
    "plan.prune.rounds=1", "plan.shift.epochs=1",
]  # fmt: skip


def run(*words):
    runner = CliRunner(env={"COLUMNS": "200"})  # tables with nothing cut off
    result = runner.invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(capsys, *words):
    """The one line that a user sees."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    assert caught.value.code == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    return captured.err
