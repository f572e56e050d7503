import subprocess
import sys

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
