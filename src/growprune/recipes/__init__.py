"""The recipes in this package, as TOML files; runs without torch."""

import tomllib
from importlib import resources


def recipe_names() -> list[str]:
    """Names of all, those only meant to be extended included."""
    entries = resources.files("growprune.recipes").iterdir()
    return sorted(
        entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml")
    )


def recipe_text(name: str) -> str:
    """A recipe's TOML."""
    return resources.files("growprune.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def shipped_recipes() -> dict[str, str]:
    """Names and one-line summaries of the recipes meant to be run."""
    tables = {name: tomllib.loads(recipe_text(name)) for name in recipe_names()}
    return {name: table["summary"] for name, table in tables.items() if table.get("summary")}
