"""Image captioning: recipe, model, training task, and finished captioners."""

from growprune.tasks.captioning.captioner import Captioner
from growprune.tasks.captioning.model import CaptionModel
from growprune.tasks.captioning.settings import CaptioningRecipe
from growprune.tasks.captioning.task import CaptioningTask
from growprune.tasks.captioning.zero_skipping import measured_flops

__all__ = ["CaptionModel", "Captioner", "CaptioningRecipe", "CaptioningTask", "measured_flops"]
