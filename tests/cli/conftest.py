import sys
from pathlib import Path

import pytest

from growprune.data.spoken import make_corpus

# For the helpers beside these tests, and for the recognisers of the pipelines' tests.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "pipelines")]

from program import TINY, run  # noqa: E402


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "spoken"
    return folder, make_corpus(folder, train=12, dev=3, test=3)


@pytest.fixture(scope="session")
def trained(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiny"
    sets = [word for value in TINY for word in ("--set", value)]
    output = run("train", "demo-hlstm-gp", "--data", corpus[0], "--out", out, "--seed", 3, *sets)
    assert "dev WER" in output
    return out
