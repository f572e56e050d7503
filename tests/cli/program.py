"""Running the program within the tests' process, and without torch in one of its own."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from growprune.cli.app import app, main

TINY = [
    "model.recurrent.hidden_size=8", "model.recurrent.gate_hidden_sizes=[8]",
    "training.epochs=4", "training.threads=1", "plan.grow.epochs=1", "plan.grow.interval=2",
    "plan.prune.rounds=1", "plan.shift.epochs=1",
]  # fmt: skip

WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning_fabric"):
            raise ModuleNotFoundError(f"{name} is refused here", name=name)

sys.meta_path.insert(0, Refuse())
from growprune.cli import main
try:
    main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules
"""


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


def without_torch(*words, given=b"", status=0):
    """Standard output, or standard error where the program is to fail."""
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, *map(str, words)]
    result = subprocess.run(command, input=given, capture_output=True, check=False)
    assert result.returncode == status, result.stderr.decode()
    return (result.stderr if status else result.stdout).decode()
