import sys
from pathlib import Path

root = Path(__file__).parents[2]
sys.path[:0] = [str(root / "benchmarks"), str(root / "tests" / "pipelines")]
