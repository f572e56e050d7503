"""Speech and captioned images: files, features, letters, words, corpora; runs without torch."""

from typing import TYPE_CHECKING

from growprune.lazy import lazy

if TYPE_CHECKING:
    from growprune.data.alphabet import BLANK, ENGLISH, Alphabet, normalise_text
    from growprune.data.an4 import AN4_DEV_SPEAKERS, download_an4, read_an4, verify_an4
    from growprune.data.audio import SAMPLE_RATE, audio_seconds, load_audio
    from growprune.data.audio_stream import file_pieces, pipe_pieces
    from growprune.data.augment import (
        SpecAugment,
        spec_augment,
        speed_perturb,
        warp_frequencies,
    )
    from growprune.data.captions import CaptionCorpus, CaptionedImage, holds_captions, open_captions
    from growprune.data.checks import check_utterances, frames_needed
    from growprune.data.corpora import CORPORA, KnownCorpus, open_corpus, prepare
    from growprune.data.encoder_cache import LITE0, LITE0_SHA256, lite0_path
    from growprune.data.features import (
        FeatureSettings,
        FeatureStream,
        extract,
        log_powers,
        normalised,
    )
    from growprune.data.image_features import FeatureTable, FeatureWriter, open_features
    from growprune.data.images import image_files, open_image, resized
    from growprune.data.manifest import Corpus, Utterance, read_manifest, write_manifest
    from growprune.data.noise import Noise, add_noise, noise_powers, part_of
    from growprune.data.vocabulary import Vocabulary, words_of
    from growprune.data.words import WordSpan, read_words, write_words

__all__ = [
    "AN4_DEV_SPEAKERS",
    "BLANK",
    "CORPORA",
    "ENGLISH",
    "LITE0",
    "LITE0_SHA256",
    "SAMPLE_RATE",
    "Alphabet",
    "CaptionCorpus",
    "CaptionedImage",
    "Corpus",
    "FeatureSettings",
    "FeatureStream",
    "FeatureTable",
    "FeatureWriter",
    "KnownCorpus",
    "Noise",
    "SpecAugment",
    "Utterance",
    "Vocabulary",
    "WordSpan",
    "add_noise",
    "audio_seconds",
    "check_utterances",
    "download_an4",
    "extract",
    "file_pieces",
    "frames_needed",
    "holds_captions",
    "image_files",
    "lite0_path",
    "load_audio",
    "log_powers",
    "noise_powers",
    "normalise_text",
    "normalised",
    "open_captions",
    "open_corpus",
    "open_features",
    "open_image",
    "part_of",
    "pipe_pieces",
    "prepare",
    "read_an4",
    "read_manifest",
    "read_words",
    "resized",
    "spec_augment",
    "speed_perturb",
    "verify_an4",
    "warp_frequencies",
    "words_of",
    "write_manifest",
    "write_words",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "alphabet": "BLANK ENGLISH Alphabet normalise_text",
        "an4": "AN4_DEV_SPEAKERS download_an4 read_an4 verify_an4",
        "audio": "SAMPLE_RATE audio_seconds load_audio",
        "audio_stream": "file_pieces pipe_pieces",
        "augment": "SpecAugment spec_augment speed_perturb warp_frequencies",
        "captions": "CaptionCorpus CaptionedImage holds_captions open_captions",
        "checks": "check_utterances frames_needed",
        "corpora": "CORPORA KnownCorpus open_corpus prepare",
        "encoder_cache": "LITE0 LITE0_SHA256 lite0_path",
        "features": "FeatureSettings FeatureStream extract log_powers normalised",
        "image_features": "FeatureTable FeatureWriter open_features",
        "images": "image_files open_image resized",
        "manifest": "Corpus Utterance read_manifest write_manifest",
        "noise": "Noise add_noise noise_powers part_of",
        "vocabulary": "Vocabulary words_of",
        "words": "WordSpan read_words write_words",
    },
)
