import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from rebasin_lab.training import augmentation

# Zoom, offset down and right in pixels, flip, angle in radians.
TRANSFORMS = [
    (0.8, (0.0, 0.0), False, 0.0),
    (1.2, (1.5, -0.7), False, 0.0),
    (1.0, (0.0, 0.0), True, 0.0),
    (1.0, (0.0, 0.0), False, 0.5),
    (0.87, (-0.8, 0.9), True, -0.4),
    (1.13, (0.6, 1.2), True, 0.3),
    (1.0, (0.0, 0.0), False, np.pi / 2),
]


def some_images(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random(shape, np.float32))


def scipy_transform(image, zoom, offset, flip, angle):
    """The same in SciPy's words and float64: one `affine_transform` for each of the three."""

    def resample(plane, matrix, shift):
        centre = (np.array(plane.shape) - 1) / 2
        matrix = np.asarray(matrix, np.float64)
        # A pixel outside counts as 0 in the interpolation too.
        return scipy.ndimage.affine_transform(
            plane, matrix, centre - matrix @ centre + shift, order=1, mode="grid-constant", cval=0
        )

    rotation = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    planes = []
    for plane in np.moveaxis(np.asarray(image, np.float64), -1, 0):
        plane = resample(plane, np.eye(2) / zoom, np.array(offset) / zoom)
        plane = resample(plane, np.diag([1, -1 if flip else 1]), 0)
        planes.append(resample(plane, rotation, 0))
    return np.stack(planes, axis=-1)


def transform(image, zoom, offset, flip, angle):
    zoom, offset, angle = (jnp.asarray(number, jnp.float32) for number in (zoom, offset, angle))
    return jax.jit(augmentation._transform)(image, zoom, offset, jnp.array(flip), angle)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def draws(key, num, height=32, width=32):
    keys = jax.random.split(key, num)
    return jax.vmap(lambda key: augmentation._draw(key, height, width))(keys)


@pytest.mark.parametrize("shape", [(16, 16, 3), (9, 14, 1)])
@pytest.mark.parametrize("drawn", TRANSFORMS)
def test_zoom_flip_and_rotation_are_those_of_scipy(shape, drawn):
    image = some_images(*shape)
    # Positions are float32, right to 1e-6 pixels; an image in [0, 1] changes no faster than that.
    np.testing.assert_allclose(transform(image, *drawn), scipy_transform(image, *drawn), atol=1e-5)


def test_augmented_batch_is_scipys_with_the_drawn_numbers():
    key, images = jax.random.key(3), some_images(12, 16, 16, 3)
    drawn = draws(key, 12, 16, 16)
    expected = [scipy_transform(*one) for one in zip(images, *map(np.asarray, drawn), strict=True)]
    np.testing.assert_allclose(jax.jit(augmentation.augment)(key, images), expected, atol=1e-5)


def test_identity_gives_the_image_back_bit_for_bit():
    image = some_images(15, 16, 3)
    np.testing.assert_array_equal(transform(image, 1.0, (0, 0), False, 0.0), image)
    np.testing.assert_array_equal(transform(image, 1.0, (0, 0), True, 0.0), image[:, ::-1])


def test_whole_offset_moves_whole_pixels_and_black_comes_in():
    image = 0.5 + some_images(8, 8, 1)
    moved = transform(image, 1.0, (2, -3), False, 0.0)
    np.testing.assert_array_equal(moved[:6, 3:], image[2:, :5])
    assert not moved[6:].any()
    assert not moved[:, :3].any()


def test_positive_angle_turns_counterclockwise():
    image = jnp.zeros((9, 9, 1)).at[4, 8].set(1.0)  # right of the centre
    turned = transform(image, 1.0, (0, 0), False, np.pi / 6)
    row, column, _ = np.unravel_index(turned.argmax(), turned.shape)
    assert (row, column) == (2, 7)  # 30 degrees up: 4 cos 30 = 3.5, 4 sin 30 = 2


def test_zoomed_image_or_frame_lies_inside_the_other():
    zoom, offset, _, _ = map(np.asarray, draws(jax.random.key(0), 2000, 16, 32))
    to_edge = np.abs(zoom[:, None] - 1) / 2 * np.array([16, 32])
    assert (np.abs(offset) <= to_edge * (1 + 1e-6)).all()
    assert (np.abs(offset) > 0.99 * to_edge).any(axis=0).all()


def test_draws_are_distributed_as_in_the_paper():
    zoom, offset, flip, angle = map(np.asarray, draws(jax.random.key(0), 4000))
    columns = [np.log(zoom / 0.8) / np.log(1.2 / 0.8), (angle + np.pi / 6) / (np.pi / 3)]
    columns += list((offset / (16 * (zoom[:, None] - 1)) / 2 + 0.5).T)
    for column in columns:  # uniform on [0, 1]; by chance p is below 1e-3 once in a thousand seeds
        assert scipy.stats.kstest(column, "uniform").pvalue > 1e-3
    assert scipy.stats.binomtest(int(flip.sum()), flip.size).pvalue > 1e-3
    # Independent of each other: correlations of 4000 draws have a standard deviation of 0.016.
    correlations = np.corrcoef([*columns, flip]) - np.eye(5)
    assert np.abs(correlations).max() < 0.07


def test_every_image_has_draws_of_its_own_and_the_key_decides_them():
    images = jnp.tile(some_images(1, 8, 8, 3), (20, 1, 1, 1))
    augment = jax.jit(augmentation.augment)
    first, again, other = (augment(jax.random.key(seed), images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert len({image.tobytes() for image in np.asarray(jnp.concatenate([first, other]))}) == 40


def test_augmented_images_stay_in_range():
    images = jnp.ones((50, 8, 8, 1))
    augmented = jax.jit(augmentation.augment)(jax.random.key(0), images)
    # Shares of four pixels sum to 1 but for rounding.
    assert 0 <= float(augmented.min()) < float(augmented.max()) <= 1 + 1e-6
