import subprocess
import sys

import pytest

PROGRAM = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "lightning_fabric"):
            raise ModuleNotFoundError(f"{name} is refused here", name=name)

sys.meta_path.insert(0, Refuse())
import importlib, pkgutil
package = importlib.import_module(sys.argv[1])
names = [module.name for module in pkgutil.iter_modules(package.__path__)]
assert len(names) > 1, names
for name in names:
    importlib.import_module(f"{sys.argv[1]}.{name}")
for name in package.__all__:
    getattr(package, name)
"""


@pytest.mark.parametrize("room", ["data", "decoding", "metrics"])
def test_room_imports_where_torch_is_not_installed(room):
    program = [sys.executable, "-W", "error", "-c", PROGRAM, f"growprune.{room}"]
    result = subprocess.run(program, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
