"""Image encoders of torchvision and timm, for those who have them; they run only in torch."""

from collections.abc import Sequence

import numpy as np
import torch

from growprune.data import resized
from growprune.errors import DataError
from growprune.tasks.captioning.encoders import not_installed


class TorchEncoder:
    """A torch network that computes features, used like `growprune.pipelines.ImageEncoder`.

    Args:
        name: What tables of features call it.
        network: `(n, 3, size, size)` to `(n, width)`.
        size: Height and width of its input; pictures are squashed to it.
        mean: Of each colour between 0 and 1, subtracted, ...
        std: ... and divided by.
    """

    pool = 1

    def __init__(
        self,
        name: str,
        network: torch.nn.Module,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.name = name
        self._network = network.eval()
        self._size = size
        self._mean, self._std = np.array(mean, np.float32), np.array(std, np.float32)
        self.width = self.encode([np.zeros((size, size, 3), np.uint8)]).shape[1]

    def encode(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The features of pictures: see `ImageEncoder.encode`."""
        if not images:
            return np.zeros((0, self.width), np.float32)
        squashed = np.stack([resized(image, self._size) for image in images])
        scaled = (squashed.astype(np.float32) / 255 - self._mean) / self._std
        with torch.inference_mode():
            features = self._network(torch.from_numpy(scaled).permute(0, 3, 1, 2))
        return np.asarray(features, dtype=np.float32)


def torch_encoder(name: str) -> TorchEncoder:
    """A network of torchvision (`torchvision:vgg16`) or timm (`timm:resnet50`), pretrained.

    The weights are fetched by these packages when they are used first.

    Raises:
        DataError: the package is not installed, does not know the network, or has no weights.
    """
    library, _, network = name.partition(":")
    build = {"torchvision": _torchvision, "timm": _timm}[library]
    try:
        return build(name, network)
    except ImportError as error:
        raise not_installed(name, error.name, library) from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"encoder {name}: cannot be loaded ({reason})") from error


def _torchvision(name: str, network: str) -> TorchEncoder:
    """Without its last linear layer: 4096 numbers of VGG-16, 2048 of ResNet-50."""
    from torchvision import models

    weights = models.get_model_weights(network).DEFAULT
    model = models.get_model(network, weights=weights)
    linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    if not linear:
        raise ValueError("it has no linear layer to leave out")
    model.set_submodule(linear[-1], torch.nn.Identity())
    scaling = weights.transforms()
    return TorchEncoder(name, model, scaling.crop_size[0], scaling.mean, scaling.std)


def _timm(name: str, network: str) -> TorchEncoder:
    import timm

    model = timm.create_model(network, pretrained=True, num_classes=0)
    scaling = timm.data.resolve_model_data_config(model)
    return TorchEncoder(name, model, scaling["input_size"][1], scaling["mean"], scaling["std"])
