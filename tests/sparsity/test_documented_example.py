"""The example in the documentation runs as it stands and does what it says."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from growprune.sparsity import Plan

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "grow-and-prune.md"
PAGES = [GUIDE, ROOT / "README.md"]
MARK = "<!-- runs in tests/sparsity/test_documented_example.py -->\n```python\n"


def examples(page):
    """The marked code blocks of a page."""
    return [part.split("\n```", 1)[0] for part in page.read_text().split(MARK)[1:]]


EXAMPLES = [pytest.param(code, id=page.name) for page in PAGES for code in examples(page)]


def test_the_guide_has_its_example():
    assert len(examples(GUIDE)) == 1


@pytest.mark.parametrize("code", EXAMPLES)
def test_example_runs(code, capsys):
    torch.manual_seed(0)
    names = {"__name__": "example"}
    exec(compile(code, "example", "exec"), names)

    assert code.count("# added") == 5
    grow_prune, model = names["grow_prune"], names["model"]
    assert isinstance(model.lstm, nn.LSTM)
    assert grow_prune.is_done
    assert grow_prune.density() == pytest.approx(0.1, abs=1e-3)
    for name, mask in grow_prune.masks.items():
        assert (dict(model.named_parameters())[name][~mask] == 0).all()
    with torch.no_grad():
        right = (model(names["inputs"]).argmax(1) == names["labels"]).float().mean()
    assert right > 0.9
    assert "loss" in capsys.readouterr().out


def test_the_plans_of_the_guide_are_plans(tmp_path):
    blocks = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(blocks) == 2
    plans = []
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        plans.append(Plan.from_toml(path))
    assert plans[0].epochs == 10 + 5 * 2 + 2
    assert plans[1].rewire is not None
    # Every key of the cycle stands in the guide, or is named in its comments.
    for section in (
        Plan,
        *(type(part) for part in (plans[0].grow, plans[0].prune, plans[0].shift)),
    ):
        for key in section.model_fields:
            assert re.search(rf"\b{key}\b", GUIDE.read_text()), key
