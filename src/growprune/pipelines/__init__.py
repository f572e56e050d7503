"""From packed model to text; runs without torch."""

from typing import TYPE_CHECKING

from growprune.lazy import lazy

if TYPE_CHECKING:
    from growprune.pipelines.caption_evaluation import (
        CaptionEvaluation,
        CaptionWriter,
        WrittenCaption,
        check_features,
        evaluate_captions,
        measure_caption_latency,
        split_features,
    )
    from growprune.pipelines.captioner import Captioner
    from growprune.pipelines.evaluation import Transcriber, evaluate, measure_latency
    from growprune.pipelines.image_encoder import EncoderSettings, ImageEncoder
    from growprune.pipelines.recognizer import Recognizer, TextStream

__all__ = [
    "CaptionEvaluation",
    "CaptionWriter",
    "Captioner",
    "EncoderSettings",
    "ImageEncoder",
    "Recognizer",
    "TextStream",
    "Transcriber",
    "WrittenCaption",
    "check_features",
    "evaluate",
    "evaluate_captions",
    "measure_caption_latency",
    "measure_latency",
    "split_features",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "caption_evaluation": "CaptionEvaluation CaptionWriter WrittenCaption check_features"
        " evaluate_captions measure_caption_latency split_features",
        "captioner": "Captioner",
        "evaluation": "Transcriber evaluate measure_latency",
        "image_encoder": "EncoderSettings ImageEncoder",
        "recognizer": "Recognizer TextStream",
    },
)
