"""The command line: one thin file per command."""

from growprune.cli.app import main

__all__ = ["main"]
