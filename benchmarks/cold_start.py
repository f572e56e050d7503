"""From a process's start to its first result, and the memory it took, for each engine."""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from growprune.bench.onnx_network import network
from growprune.tasks import pack_run

# Each program imports, loads, computes one result, and says what memory it took at its most.
# `getrusage` would count what this process held when it started the program.
_HEAD = "import sys; model, features, audio = sys.argv[1:]\n"
_TAIL = """
status = dict(line.split(":") for line in open("/proc/self/status"))
print(status["VmHWM"].split()[0])
"""
_PROGRAMS = {
    "Python and NumPy alone": "import numpy as np; np.load(features)",
    "growprune, network": (
        "import numpy as np; from growprune import runtime\n"
        "runtime.load(model + '.safetensors').run(np.load(features))"
    ),
    "growprune, audio to text": (
        "from growprune.pipelines import Recognizer\n"
        "Recognizer.load(model + '.safetensors').transcribe(audio)"
    ),
    "onnxruntime, network": (
        "import numpy as np, onnxruntime as ort\n"
        "options = ort.SessionOptions(); options.intra_op_num_threads = 1\n"
        "session = ort.InferenceSession(model + '.onnx', options)\n"
        "session.run(None, {'input': np.load(features)})"
    ),
    "torch, network": (
        "import numpy as np, torch; from growprune.tasks.speech import Recognizer\n"
        "torch.set_num_threads(1); network = Recognizer.from_run(model).model\n"
        "x = torch.from_numpy(np.load(features))\n"
        "with torch.inference_mode(): network(x, torch.tensor([x.shape[1]]))"
    ),
    "torch, audio to text": (
        "import torch; from growprune.tasks.speech import Recognizer\n"
        "torch.set_num_threads(1); Recognizer.from_run(model).transcribe(audio)"
    ),
}


@dataclass(frozen=True)
class Start:
    """One program.

    Attributes:
        name: the engine, and how far the program goes.
        seconds: from its start to its end, the median of several.
        megabytes: most memory it held.
    """

    name: str
    seconds: float
    megabytes: float

    def record(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self)


def measure_cold_start(run: Path, audio: Path, folder: Path, repeats: int) -> list[Start]:
    """Start every program several times, by turns.

    Args:
        run: a finished run.
        audio: a sound file of its features' rate.
        folder: where the run's packed and ONNX forms go, for the programs to load.
        repeats: how often each is started.
    """
    packed = pack_run(run, layout="auto", weights="float32")
    packed.save(folder / "model.safetensors")
    (folder / "model.onnx").write_bytes(network(packed.contents))
    bands = packed.contents.features[0]
    rows = np.random.default_rng(0).standard_normal((1, 100, bands)).astype(np.float32)
    np.save(folder / "features.npy", rows)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _PROGRAMS}
    for _ in range(repeats):
        for name, program in _PROGRAMS.items():
            model = run if name.startswith("torch") else folder / "model"
            arguments = [str(model), str(folder / "features.npy"), str(audio)]
            found[name].append(_start(_HEAD + program + _TAIL, arguments))
    return [
        Start(name, median(s for s, _ in starts), max(m for _, m in starts))
        for name, starts in found.items()
    ]


def _start(program: str, arguments: list[str]) -> tuple[float, float]:
    """Seconds and megabytes of a process."""
    start = time.perf_counter()
    command = [sys.executable, "-c", program, *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - start, json.loads(output) / 1024
