"""Augmentation: the paper's random zoom, flip and rotation of CIFAR images, in pure JAX.

Ainsworth et al. 2022, A.3: zoom by 0.8 to 1.2 and crop or pad to the old size, flip with
probability 1/2, rotate by up to 30 degrees. As in the authors' library, zoom and rotation each
resample the image, in this order, which blurs more than one interpolation. Pixels from outside the
image are 0, which is black for images in [0, 1]; so normalise images after the augmentation.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

ZOOM_RANGE = (0.8, 1.2)
LARGEST_ANGLE = np.pi / 6  # radians, either way

Image = Float[Array, "h w c"]
Scalar = Float[Array, ""]


def augment(
    key: Key[Array, ""], images: Float[Array, "batch h w c"]
) -> Float[Array, "batch h w c"]:
    """Zoom, flip and rotate images at random, each independently.

    Args:
        key: consumed; split into one per image.
        images: black is 0.
    """
    return jax.vmap(_augment_one)(jax.random.split(key, images.shape[0]), images)


def _augment_one(key: Key[Array, ""], image: Image) -> Image:
    return _transform(image, *_draw(key, *image.shape[:2]))


def _draw(
    key: Key[Array, ""], height: int, width: int
) -> tuple[Scalar, Float[Array, "2"], Bool[Array, ""], Scalar]:
    """Draw zoom, offset, flip and angle for one image.

    The zoom is log-uniform. The offset, in pixels, is uniform among those that keep the zoomed
    image inside the frame, or the frame inside the zoomed image.
    """
    # In one draw, since XLA compiles each use of the generator slowly.
    shares = jax.random.uniform(key, (5,))
    smallest, largest = np.log(ZOOM_RANGE)
    zoom = jnp.exp(smallest + (largest - smallest) * shares[0])
    to_edge = (zoom - 1) / 2 * jnp.array([height, width])
    offset = to_edge * (2 * shares[1:3] - 1)
    flip = shares[3] < 0.5
    angle = LARGEST_ANGLE * (2 * shares[4] - 1)
    return zoom, offset, flip, angle


def _transform(
    image: Image, zoom: Scalar, offset: Float[Array, "2"], flip: Bool[Array, ""], angle: Scalar
) -> Image:
    """Zoom, flip and rotate one image; zoom 1, offset 0 and angle 0 change no bit.

    Args:
        image: black is 0.
        zoom: above 1 enlarges.
        offset: centre of the frame in the zoomed image, in pixels down and right of its centre.
        flip: whether to mirror left and right.
        angle: radians, counterclockwise.
    """
    height, width, _ = image.shape
    # Coordinates of the pixels relative to the centre.
    down = (jnp.arange(height) - (height - 1) / 2)[:, None]
    right = (jnp.arange(width) - (width - 1) / 2)[None, :]
    # A flip moves whole pixels, so it is merged with the zoom.
    mirrored = jnp.where(flip, -right, right)
    zoomed = _resample(image, (down + offset[0]) / zoom, (mirrored + offset[1]) / zoom)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _resample(zoomed, cos * down + sin * right, cos * right - sin * down)


def _resample(image: Image, down: Float[Array, "#h #w"], right: Float[Array, "#h #w"]) -> Image:
    """The image at positions relative to its centre, interpolated linearly between four pixels.

    Four gathers from a padded image are exact, and faster on a CPU than `map_coordinates`.
    """
    height, width, _ = image.shape
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    # Coordinates in the padded image; everything outside is clipped to its black border.
    y, x = jnp.broadcast_arrays(down + (height + 1) / 2, right + (width + 1) / 2)
    top, left = jnp.floor(y), jnp.floor(x)
    below, beyond = (y - top)[..., None], (x - left)[..., None]  # weights of the next row, column
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)

    def pixel(row, column):
        inside = jnp.clip(row, 0, height + 1), jnp.clip(column, 0, width + 1)
        return padded.at[inside].get(mode="promise_in_bounds")

    def row_at(row):
        return pixel(row, left) * (1 - beyond) + pixel(row, left + 1) * beyond

    return row_at(top) * (1 - below) + row_at(top + 1) * below
