"""What a user sees when something is wrong."""

from rich.console import Console
from rich.text import Text

from growprune.errors import GrowPruneError


def print_error(error: GrowPruneError, console: Console | None = None) -> None:
    """One line on standard error, or on the console of a progress bar that is on show."""
    console = console or Console(stderr=True)
    line = Text.assemble(("error:", "red"), f" {error}")
    console.print(line, soft_wrap=True)
