"""Networks of a few units, as people bring them, and their files."""

import jax
import numpy as np
import safetensors.numpy

MEAN, STD = "0.5", "0.25"  # no functions


def mlp(params, x):
    """A JAX function of a flat dict with a dot in each name."""
    hidden = jax.nn.relu(x.reshape(len(x), -1) @ params["up.weight"] + params["up.bias"][None])
    return hidden @ params["down.weight"]


def nested(params, x):
    """The same of nested dicts."""
    flat = {f"{a}.{b}": leaf for a, inside in params.items() for b, leaf in inside.items()}
    return mlp(flat, x)


def weights(seed, *, width=32, dtype=np.float32, **more):
    """Of the MLP, in the order of the file."""
    rng = np.random.default_rng(seed)
    return {
        "up.weight": rng.normal(size=(12, width)).astype(dtype),
        "up.bias": rng.normal(size=width).astype(dtype),
        "down.weight": rng.normal(size=(width, 3)).astype(dtype),
        **more,
    }


def permuted(arrays, seed=3):
    """The same function with its units in another order."""
    order = np.random.default_rng(seed).permutation(len(arrays["up.bias"]))
    moved = {
        "up.weight": arrays["up.weight"][:, order],
        "up.bias": arrays["up.bias"][order],
        "down.weight": arrays["down.weight"][order],
    }
    return arrays | moved


def save(path, arrays, metadata=None):
    """As a safetensors file."""
    # safetensors writes memory as it lies.
    arrays = {name: np.ascontiguousarray(leaf).reshape(leaf.shape) for name, leaf in arrays.items()}
    path.write_bytes(safetensors.numpy.save(arrays, metadata))
    return path


def save_data(path, *, num=40, labels=True, dtype=np.uint8):
    """Images of 2 x 2 pixels in three channels."""
    rng = np.random.default_rng(0)
    arrays = {"images": rng.integers(0, 256, (num, 2, 2, 3)).astype(dtype)}
    if labels:
        arrays["labels"] = rng.integers(0, 3, num)
    np.savez(path, **arrays)
    return path


def save_all(folder):
    """A pair, the first with its units moved, with noise, and in another width; and images."""
    a = weights(0)
    save(folder / "a.safetensors", a, {"format": "pt", "about": "A"})
    save(folder / "b.safetensors", weights(1))
    save(folder / "moved.safetensors", permuted(a))
    noise = weights(5)
    near = {n: (x + 0.1 * noise[n]).astype(x.dtype) for n, x in a.items()}
    save(folder / "near.safetensors", near)
    save(folder / "near_moved.safetensors", permuted(near))
    save(folder / "wide.safetensors", weights(0, width=33))
    save_data(folder / "data.npz")


def stored_data(path):
    """The arrays of such a file, which is closed again."""
    with np.load(path) as file:
        return dict(file)
