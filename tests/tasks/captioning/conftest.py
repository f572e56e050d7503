import sys
from pathlib import Path

# The small captioners of the pipelines' tests.
sys.path.insert(0, str(Path(__file__).parents[2] / "pipelines"))
