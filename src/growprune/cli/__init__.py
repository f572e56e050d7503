"""The command line: one thin file per command."""

import sys
from collections.abc import Sequence

from growprune.cli.messages import print_error
from growprune.errors import GrowPruneError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; see `growprune.cli.app`.

    The kernels are chosen when the commands are imported: GROWPRUNE_KERNEL may name none.
    """
    try:
        from growprune.cli.app import main as run
    except GrowPruneError as error:
        if "--debug" in (sys.argv if arguments is None else arguments):
            raise
        print_error(error)
        sys.exit(1)
    run(arguments)


__all__ = ["main"]
