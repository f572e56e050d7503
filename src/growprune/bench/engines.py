"""Other engines, set up to be as fast as they can be on one thread.

They are imported when they are used, so that those not installed are not missed.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def missing(*packages: str) -> tuple[str, ...]:
    """Those of the packages that are not installed."""
    return tuple(name for name in packages if find_spec(name) is None)


@contextmanager
def one_thread() -> Iterator[None]:
    """A block for measurements: torch, if installed, computes on one thread and records nothing."""
    if find_spec("torch") is None:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)


def onnxruntime_session(model: bytes) -> Any:
    """An onnxruntime session on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def quantised(model: bytes) -> bytes:
    """An ONNX model with int8 weights, whose activations onnxruntime quantises as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "int8.onnx"
        whole.write_bytes(model)
        logging.disable(logging.WARNING)  # advice to simplify the graph: there is nothing to
        try:
            quantize_dynamic(whole, small, weight_type=QuantType.QInt8)
        finally:
            logging.disable(logging.NOTSET)
        return small.read_bytes()


def openvino_request(model: bytes) -> Any:
    """An OpenVINO inference request with the latency hint, in float32 on one thread."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    return core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
