"""Names of a package whose modules are imported when one of theirs is first used."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(
    package: str, names: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package: who uses one name does not wait for the rest.

    Type checkers need the same imports under `TYPE_CHECKING`.

    Args:
        package: its `__name__`.
        names: those of each of its modules, between spaces. None may be called as a module is,
            which would take its place once imported.
    """
    homes = {name: module for module, own in names.items() for name in own.split()}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return find, lambda: [*vars(sys.modules[package]), *homes]
