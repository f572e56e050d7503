import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers beside the tests

from small_recognizers import SMALL, packed, talkative

from growprune.data import load_audio, open_corpus
from growprune.tasks import open_recipe


@pytest.fixture(scope="session")
def offline():
    """A bidirectional recogniser in torch, and packed."""
    trained = talkative(open_recipe("demo-hlstm-gp", SMALL))
    return trained, packed(trained)


@pytest.fixture(scope="session")
def causal():
    """A unidirectional recogniser in torch, and packed."""
    features = ["data.features.tail_ms=120", "data.features.prior_seconds=0.02"]
    trained = talkative(open_recipe("an4-hlstm-gp-streaming", [*SMALL, *features]))
    return trained, packed(trained)


@pytest.fixture(scope="session")
def an4_dev(real_data):
    """A few real recordings."""
    rows = open_corpus(real_data / "an4").split("dev")[::20]
    return [load_audio(row.audio) for row in rows]
