import os
import subprocess
import sys

import pytest

from growprune import native
from growprune.errors import GrowPruneError
from growprune.native import paths, reference


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_fastest_path_is_chosen(monkeypatch):
    monkeypatch.delenv(paths.FORCE, raising=False)
    assert paths._choose("", ["avx2", "baseline", "numpy"]) == "avx2"
    assert paths._choose("numpy", ["avx2", "baseline", "numpy"]) == "numpy"
    assert native.kernel() in paths.available()


@pytest.mark.parametrize("name", paths.available())
def test_the_environment_forces_a_path(name):
    run = python("from growprune import native; print(native.kernel())", GROWPRUNE_KERNEL=name)
    assert run.stdout.strip() == name, run.stderr


def test_an_impossible_path_is_refused():
    run = python("import growprune.native", GROWPRUNE_KERNEL="avx1024")
    assert "GROWPRUNE_KERNEL is 'avx1024', which cannot run here; set it to one of: " in run.stderr
    with pytest.raises(GrowPruneError, match="one of: baseline, numpy"):
        paths._choose("avx512", ["baseline", "numpy"])


def test_numpy_says_so_once_it_computes_unless_asked_for(monkeypatch):
    monkeypatch.setattr(paths, "_name", paths._choose("", ["numpy"]))
    monkeypatch.delenv(paths.FORCE, raising=False)
    paths.chosen.cache_clear()
    with pytest.warns(RuntimeWarning, match="without its compiled kernels"):
        assert paths.chosen() is reference
    assert paths.chosen() is reference  # without a warning, which would be an error
    monkeypatch.setenv(paths.FORCE, "numpy")
    paths.chosen.cache_clear()
    assert paths.chosen() is reference
    paths.chosen.cache_clear()


def test_torch_is_not_needed():
    code = "import sys; sys.modules['torch'] = None; import growprune.native"
    run = python(code, GROWPRUNE_KERNEL="numpy")
    assert run.returncode == 0, run.stderr
