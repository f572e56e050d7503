"""What a user sees when something is wrong."""

from rich.console import Console

from growprune.errors import GrowPruneError


def print_error(error: GrowPruneError) -> None:
    """One line on standard error."""
    console = Console(stderr=True, soft_wrap=True)
    console.print("[red]error:[/red] ", end="")
    console.print(str(error), highlight=False, markup=False)
