"""Speech recognition: recipe, model, training task, and finished recognisers."""

from growprune.tasks.speech.evaluation import Evaluation, evaluate_run, measure_latency
from growprune.tasks.speech.model import SpeechModel
from growprune.tasks.speech.recognizer import Decoder, Recognizer, language_model
from growprune.tasks.speech.settings import SpeechRecipe
from growprune.tasks.speech.task import SpeechTask

__all__ = [
    "Decoder",
    "Evaluation",
    "Recognizer",
    "SpeechModel",
    "SpeechRecipe",
    "SpeechTask",
    "evaluate_run",
    "language_model",
    "measure_latency",
]
