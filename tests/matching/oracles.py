"""Answers found without the library's matchers: planted permutations, and trying all orders."""

import itertools
import math

import numpy as np

import rebasin_lab as rl
from rebasin_lab import pytrees


def assert_same_permutation(left, right):
    assert left.keys() == right.keys()
    for name, indices in left.items():
        np.testing.assert_array_equal(indices, right[name], err_msg=name)


def plant(spec, params, seed=0):
    """A permuted copy, and the permutation that a matcher has to find."""
    planted = rl.random_permutation(spec, params, seed=seed)
    return rl.apply_permutation(spec, planted, params), rl.invert_permutation(planted)


def norms(*trees):
    """The product of the norms: the largest an inner product can be, the scale of its rounding."""
    return float(np.prod([np.sqrt(pytrees.inner_product(tree, tree)) for tree in trees]))


def objective(spec, permutation, params_a, params_b):
    """<A, pi(B)>, multiplied out."""
    return pytrees.inner_product(params_a, rl.apply_permutation(spec, permutation, params_b))


def num_orders(spec, params, names):
    """In how many ways the units of these groups can be ordered together."""
    shapes = (spec.shapes(params)[name] for name in names)
    return math.prod(math.factorial(shape[-1]) ** math.prod(shape[:-1]) for shape in shapes)


def all_orders(spec, params, names):
    """Every joint order of these groups, all others as they are."""
    shapes = spec.shapes(params)

    def orders_of(shape):
        one = itertools.permutations(range(shape[-1]))
        rows = itertools.product(one, repeat=math.prod(shape[:-1]))
        return [np.array(orders).reshape(shape) for orders in rows]

    still = rl.identity_permutation(spec, params)
    for orders in itertools.product(*(orders_of(shapes[name]) for name in names)):
        yield still | dict(zip(names, orders, strict=True))


def moved(names, array, permutation):
    """An array of one name or None per axis in another order: the definition, and fast."""
    axis_of = {name.split("[")[0]: axis for axis, name in enumerate(names) if name is not None}
    index = []
    for axis, name in enumerate(names):
        parents, order = [], np.arange(array.shape[axis])
        if name is not None and not name.startswith("#"):
            parents = [
                axis_of[base] for base in name[:-1].split("[")[1:] for base in base.split(",")
            ]
            order = permutation[name]
        # new[i, j] = old[h[i], d[i, j]]: d stands along its parents' axes and its own.
        along = [*parents, axis]
        shape = [n if i in along else 1 for i, n in enumerate(array.shape)]
        index.append(np.transpose(order, np.argsort(along)).reshape(shape))
    return array[tuple(index)]


def given_total(similarities, permutation, sizes):
    """The similarity of all units that face each other once B is permuted."""
    total = 0.0
    for one in similarities:
        held = [name for name in one.entries if name.startswith("#")]
        units = [name for name in one.entries if not name.startswith("#")]
        own, whole = [sizes[name] for name in units], one.matrix.shape
        matrix = one.matrix.reshape(*whole[:-1], *own)
        matrix = moved([*held, None, *units], matrix, permutation).reshape(whole)
        total += float(np.trace(matrix, axis1=-2, axis2=-1).sum(dtype=np.float64))
    return total
