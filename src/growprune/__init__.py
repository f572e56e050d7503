"""Train LSTMs that are small, fast and accurate by growing and pruning their connections."""

__version__ = "0.1.0"
