import copy

import pytest

from growprune.errors import RecipeError
from growprune.recipes import shipped_recipes
from growprune.tasks import open_recipe, with_defaults
from growprune.training import read_table


def write(folder, name, text):
    path = folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


def test_every_shipped_recipe_is_valid_and_described():
    names = shipped_recipes()
    assert {"an4-lstm", "an4-hlstm-gp", "deepspeech2-an4", "demo-lstm", "demo-hlstm-gp"} <= set(
        names
    )
    for name, summary in names.items():
        assert open_recipe(name).name == name
        assert summary


def test_extends_merges_tables_key_by_key_and_replaces_values(tmp_path):
    write(tmp_path, "base", 'name = "b"\nsummary = "s"\n[a]\nx = 1\ny = [1, 2]\n[a.c]\nz = 3\n')
    path = write(tmp_path, "top", 'extends = "base.toml"\nname = "t"\n[a]\ny = [5]\n[a.c]\nw = 4\n')
    assert read_table(path) == {"name": "t", "a": {"x": 1, "y": [5], "c": {"z": 3, "w": 4}}}


def test_the_compared_recipes_differ_only_in_cells_and_plan():
    dense, grown = (read_table(name) for name in ("an4-lstm", "an4-hlstm-gp"))
    for table in (dense, grown):
        for key in ("name", "summary", "plan"):
            table.pop(key, None)
        for key in ("hidden_size", "gate_hidden_sizes", "gate_dropout"):
            table["model"]["recurrent"].pop(key, None)
    assert dense == grown


def test_a_record_older_than_a_setting_is_of_a_recipe_with_its_default():
    recipe = open_recipe("an4-lstm")
    table = recipe.model_dump(mode="json")
    assert table["model"]["recurrent"].pop("cell") == "lstm"
    assert recipe.is_of(table)
    assert recipe.is_of(table | {"summary": "told otherwise"})
    gru = ["model.recurrent.cell=gru"]
    assert not open_recipe("an4-lstm", gru).is_of(table)
    table["model"]["recurrent"]["cells"] = "lstm"
    assert not recipe.is_of(table)


def test_settings_younger_than_a_record_are_added_with_their_defaults():
    recipe = open_recipe("an4-hlstm-gp").model_dump(mode="json")
    older = copy.deepcopy(recipe)
    del older["model"]["recurrent"]["cell"], older["plan"]["rescale_seed"]
    assert with_defaults(older) == recipe
    other = older | {"plan": older["plan"] | {"rescale_seed": True}}
    assert with_defaults(other)["plan"]["rescale_seed"] is True
    for unreadable in ({"name": "x"}, older | {"gone": 1}, older | {"task": "none"}):
        assert with_defaults(unreadable) == unreadable


def test_overrides_are_read_as_toml_else_as_text():
    table = read_table(
        "an4-lstm",
        ["training.epochs=7", "data.speeds=[1.0]", "name=mine", "training.optimizer.momentum=0.5"],
    )
    assert table["training"]["epochs"] == 7
    assert table["data"]["speeds"] == [1.0]
    assert table["name"] == "mine"
    assert table["training"]["optimizer"]["momentum"] == 0.5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.epoch=3"], r"unknown key 'training.epoch'; did you mean 'epochs'\?"),
        (["training.epochs=0"], "'training.epochs' is 0; it should be greater than 0"),
        (["training.epochs=5"], "phases take 120 epochs but training.epochs is 5"),
        (["training.epochs"], "give it as key=value"),
        (["name.inner=1"], "name is a value, not a table"),
        (["model.recurrent.layers=x"], "'model.recurrent.layers' is 'x'"),
        (["plan.prune.rounds=-1"], "plan.prune.rounds"),
        (["training.patience=3"], "patience needs keep = 'best'"),
        (["training.optimizer.final_epochs=120"], "final_epochs is 120, which leaves no epoch of"),
        (
            ["training.average_epochs=97"],
            "average_epochs is 97, but the plan and the final epochs leave only 96 of the",
        ),
        (
            ["training.average_epochs=95", "training.optimizer.final_epochs=2"],
            "leave only 94 of the 120 epochs",
        ),
        (["training.average_epochs=121"], "there are only 120 epochs; lower it"),
        (
            ["training.average_epochs=9", "training.keep=best", "training.patience=3"],
            "patience may end the run before them",
        ),
        (
            ["model.recurrent.cell=gru"],
            "'model.recurrent': a GRU's gates have no hidden layers;",
        ),
        (["task=painting"], "task is 'painting'; it must be one of"),
        (["name=../../x"], "name"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(overrides, message):
    with pytest.raises(RecipeError, match=message) as caught:
        open_recipe("an4-hlstm-gp", overrides)
    assert "\n" not in str(caught.value)


def test_weights_are_averaged_in_any_epochs_without_changes():
    """The plan's last epochs, after the shift, are such; a dense recipe has no others."""
    assert open_recipe("an4-hlstm-gp").training.average_epochs == 0
    open_recipe("an4-hlstm-gp", ["training.average_epochs=96"])
    open_recipe("an4-lstm", ["training.average_epochs=120"])


def test_recipes_that_cannot_be_read_say_so(tmp_path):
    with pytest.raises(RecipeError, match="no recipe named 'nonesuch'; there are an4-"):
        read_table("nonesuch")
    with pytest.raises(RecipeError, match=r"missing.toml cannot be read"):
        read_table(str(tmp_path / "missing.toml"))
    with pytest.raises(RecipeError, match="not valid TOML"):
        read_table(write(tmp_path, "broken", "a = = 1"))
    with pytest.raises(RecipeError, match="extends itself"):
        read_table(write(tmp_path, "loop", 'extends = "loop.toml"'))
    with pytest.raises(RecipeError, match="extends is 3"):
        read_table(write(tmp_path, "three", "extends = 3"))
