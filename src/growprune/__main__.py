"""`python -m growprune`, the same as the `growprune` program."""

from growprune.cli import main

main()
