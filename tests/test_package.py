import ast
import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

import growprune


def test_top_level_names_load_when_used_and_no_torch_before():
    before, after = "assert 'torch' not in sys.modules", "assert 'torch' in sys.modules"
    code = f"import sys, growprune; {before}; growprune.HLSTM; {after}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_top_level_names_are_what_they_say():
    from growprune.nn import HLSTM
    from growprune.sparsity import GrowPrune

    assert growprune.HLSTM is HLSTM
    assert growprune.GrowPrune is GrowPrune
    assert all(hasattr(growprune, name) for name in growprune.__all__)
    assert not hasattr(growprune, "nonesuch")


@pytest.mark.parametrize("name", ["growprune", "growprune.data", "growprune.pipelines"])
def test_a_lazy_packages_names_are_those_that_type_checkers_see(name):
    package = import_module(name)
    (block,) = (node for node in ast.parse(inspect.getsource(package)).body if type(node) is ast.If)
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert set(seen) == set(package.__all__) <= set(dir(package))
    for attribute, module in seen.items():
        assert getattr(package, attribute) is getattr(import_module(module), attribute)
    assert not set(seen) & {module.name for module in pkgutil.iter_modules(package.__path__)}
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nonesuch'"):
        package.nonesuch  # noqa: B018


def test_who_transcribes_does_not_wait_for_captions_corpora_and_augmentation():
    code = "import sys; from growprune.pipelines import Recognizer; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(found.stdout.split())
    assert "growprune.pipelines.recognizer" in loaded
    for room in ("data.an4", "data.augment", "data.captions", "pipelines.captioner", "metrics"):
        assert f"growprune.{room}" not in loaded


def test_grow_prune_takes_every_matrix_of_the_recogniser():
    import torch

    from growprune.tasks import open_recipe
    from growprune.tasks.speech.model import build_model

    recipe = open_recipe("demo-hlstm-gp")
    model = build_model(recipe)
    wrapped = growprune.GrowPrune(model, torch.optim.Adam(model.parameters()), recipe.plan)
    matrices = {name for name, weight in model.named_parameters() if weight.ndim >= 2}
    assert set(wrapped.masks) == matrices
    assert any("weight_hh_l0" in name for name in matrices)
