"""Pictures and the sentences that describe them, from the layouts such corpora come in."""

from growprune.data.captions.corpus import CaptionCorpus, CaptionedImage
from growprune.data.captions.opening import holds_captions, open_captions

__all__ = ["CaptionCorpus", "CaptionedImage", "holds_captions", "open_captions"]
