"""From packed model to text; runs without torch."""

from growprune.pipelines.evaluation import Transcriber, evaluate, measure_latency
from growprune.pipelines.image_encoder import EncoderSettings, ImageEncoder
from growprune.pipelines.recognizer import Recognizer, TextStream

__all__ = [
    "EncoderSettings",
    "ImageEncoder",
    "Recognizer",
    "TextStream",
    "Transcriber",
    "evaluate",
    "measure_latency",
]
