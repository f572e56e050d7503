import sys
from pathlib import Path

# This folder's small tasks, and the small captioners of the pipelines' tests.
here = Path(__file__).parent
sys.path[:0] = [str(here), str(here.parents[1] / "pipelines")]
