"""Speech recognition: recipe, model, training task, and finished recognisers."""

from growprune.tasks.speech.alignment import align_run
from growprune.tasks.speech.evaluation import evaluate_run
from growprune.tasks.speech.model import SpeechModel
from growprune.tasks.speech.recognizer import Recognizer
from growprune.tasks.speech.settings import SpeechRecipe
from growprune.tasks.speech.task import SpeechTask

__all__ = [
    "Recognizer",
    "SpeechModel",
    "SpeechRecipe",
    "SpeechTask",
    "align_run",
    "evaluate_run",
]
