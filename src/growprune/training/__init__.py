"""The training loop, recipes, checkpoints and run records; knows a `Task`, and no task."""

from growprune.training.checkpoint import Weights, load_local, load_weights, save_local
from growprune.training.loop import train
from growprune.training.recipe import Recipe, read_table, validate
from growprune.training.record import read as read_record
from growprune.training.record import write as write_record
from growprune.training.task import Task

__all__ = [
    "Recipe",
    "Task",
    "Weights",
    "load_local",
    "load_weights",
    "read_record",
    "read_table",
    "save_local",
    "train",
    "validate",
    "write_record",
]
