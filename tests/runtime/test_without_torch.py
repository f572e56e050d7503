"""The runtime needs NumPy and safetensors, nothing else."""

import subprocess
import sys

import numpy as np
from networks import everything

from growprune import runtime

ALLOWED = ("growprune", "numpy", "safetensors")
PROGRAM = """
import sys

ALLOWED = (*sys.argv[1].split(), *sys.stdlib_module_names)

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in ALLOWED:
            raise ModuleNotFoundError(f"{name} is refused here", name=name)

sys.meta_path.insert(0, Refuse())
import numpy as np
from growprune import runtime

model = runtime.load(sys.argv[2])
x, expected = np.load(sys.argv[3]), np.load(sys.argv[4])
whole, _ = model.run(x)
stream = model.stream(len(x))
pieces = np.concatenate([stream.push(x[:, :3]), stream.push(x[:, 3:]), stream.finish()], axis=1)
for found in (whole, pieces):
    assert found.shape == expected.shape and abs(found - expected).max() < 1e-6
"""


def test_a_model_runs_where_only_numpy_and_safetensors_are_installed(tmp_path):
    net = everything()
    runtime.write(tmp_path / "model.safetensors", net.packed())
    x = net.numbers(2, 9, 6)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", net.model().run(x)[0])
    allowed = " ".join((*ALLOWED, *_finders()))
    files = [str(tmp_path / name) for name in ("model.safetensors", "x.npy", "y.npy")]
    program = [sys.executable, "-W", "error", "-c", PROGRAM, allowed, *files]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def _finders():
    """Import hooks of editable installations, which are modules themselves."""
    return [name for name in sys.modules if name.startswith(("_editable", "__editable"))]
