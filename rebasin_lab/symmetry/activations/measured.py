"""Find sites by measurement, for a spec that holds although no trace proves it.

A symmetry may depend on values, on cancellation, or on unknown code: a sort that is undone, equal
constants, a callback. Then the spec is applied to the caller's networks, and the values that move
as some entries of the spec say are the sites.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import pytrees
from rebasin_lab.symmetry import axes, verification
from rebasin_lab.symmetry.activations import replay, sites
from rebasin_lab.symmetry.activations.naming import Unproven
from rebasin_lab.symmetry.inference import infer
from rebasin_lab.symmetry.permutations import Permutation, apply_permutation, random_permutation
from rebasin_lab.symmetry.spec import PermutationSpec

NUM_CHECKS = 3  # permutations that must not change the outputs
MIN_TRIALS, MAX_TRIALS = 3, 12  # two groups of two units move alike in half of the trials
MAX_READINGS = 256  # possible names of the axes of one value; one with more is left out

# Names of the axes of one value: a spec of that value alone, under the name "".
Reading = PermutationSpec


def find_entries(
    apply_fn: Callable,
    spec: PermutationSpec,
    networks: Sequence[PyTree],
    inputs: tuple,
    *,
    where: str,
    doubt: Unproven,
) -> dict[int, axes.Entries]:
    """The entries of all values that move with the units, by their place in `sites.values_shown`.

    Args:
        apply_fn: the function.
        spec: of the function, although no trace proves it.
        networks: of one architecture; the spec must hold for all of them.
        inputs: arrays, or `jax.ShapeDtypeStruct`, which are drawn.
        where: "read", "written" or "summed".
        doubt: the error of the trace.

    Raises:
        Unproven: if permutations change the outputs, naming the change.
    """
    _check_holds(apply_fn, spec, networks, inputs, doubt)
    params, inputs = networks[0], verification.drawn(inputs, np.random.default_rng(0))
    is_wide = verification.computes_in_float64(apply_fn, params, inputs)
    tolerance = math.sqrt(verification.rounding(apply_fn, params, inputs))
    with verification.exactly(is_wide):
        if is_wide:
            params, inputs = verification.widened((params, inputs))
        closed = infer.trace(apply_fn, params, inputs)
        origins = sites.origins_of(closed, list(pytrees.flatten(params)))
        taps = {n: value.tap for n, value in enumerate(sites.values_shown(origins, where))}
        tapped = jax.jit(lambda *leaves: replay.tapped(closed, leaves, taps))

        def values_of(params: PyTree) -> dict[int, np.ndarray]:
            return jax.device_get(tapped(*jax.tree.leaves((params, inputs))))

        return _entries_that_fit(spec, params, values_of, tolerance)


def _check_holds(
    apply_fn: Callable,
    spec: PermutationSpec,
    networks: Sequence[PyTree],
    inputs: tuple,
    doubt: Unproven,
) -> None:
    """Check that the spec holds near a network, or else at all networks themselves.

    It may depend on values of the parameters, such as equal ones.
    """
    is_wide = verification.computes_in_float64(apply_fn, networks[0], inputs)
    step = verification.rounding(apply_fn, networks[0], inputs)
    largest = math.sqrt(np.finfo(np.float32).eps if is_wide else step)
    measure = functools.partial(
        verification.largest_change, apply_fn, spec, inputs=inputs, trials=range(NUM_CHECKS)
    )
    try:
        nearby = measure(networks[0])
    except verification.CannotTell:
        nearby = math.inf
    if nearby <= largest:
        return
    here = max(measure(params, shift=False) for params in networks)
    if not here <= largest:
        raise Unproven(
            f"{doubt} Nor does it hold as measured: a random permutation changes the outputs by "
            f"{here:.2g} of the largest."
        ) from doubt


def _entries_that_fit(
    spec: PermutationSpec,
    params: PyTree,
    values_of: Callable[[PyTree], Mapping[int, np.ndarray]],
    tolerance: float,
) -> dict[int, axes.Entries]:
    """For each value the entries of its axes, unless nothing moves or they are ambiguous."""
    sizes, before = spec.all_sizes(params), values_of(params)
    parts = list(
        dict.fromkeys(part for e in spec.entries.values() for x in e for part in _parts(x))
    )
    fits: dict[int, list[Reading]] = {}
    for trial in range(MAX_TRIALS):
        permutation = random_permutation(spec, params, seed=trial)
        after = values_of(apply_permutation(spec, permutation, params))
        for number, value in before.items():
            pair = value, after[number]
            if number not in fits:
                fits[number] = _readings(*pair, parts, sizes, permutation, tolerance)
            fits[number] = [
                reading
                for reading in fits[number]
                if _is_moved(*pair, reading, permutation, tolerance)
            ]
        if trial + 1 >= MIN_TRIALS and all(len(_plainest(each)) < 2 for each in fits.values()):
            break
    found = {}
    for number, readings in fits.items():
        plainest = _plainest(readings)
        if len(plainest) == 1 and plainest[0].permutations:
            pairs = zip(plainest[0].entries[""], before[number].shape, strict=True)
            found[number] = tuple(axes.Fixed(n) if entry is None else entry for entry, n in pairs)
    return found


def _parts(entry: axes.Entry | None) -> Iterator[axes.Entry]:
    """An entry with groups, and all its parts with groups."""
    if not axes.groups_in(entry):
        return
    yield entry
    if isinstance(entry, axes.Product):
        inside = entry.factors
    else:
        inside = getattr(entry, "terms", ())
    for part in inside:
        yield from _parts(part)


def _readings(
    before: np.ndarray,
    after: np.ndarray,
    parts: Sequence[axes.Entry],
    sizes: Mapping[str, int],
    permutation: Permutation,
    tolerance: float,
) -> list[Reading]:
    """The readings of the axes of a value that no single axis rules out."""
    choices = []
    for axis, size in enumerate(before.shape):
        others = tuple(i for i in range(before.ndim) if i != axis)
        lengths = [np.square(np.abs(x)).sum(others) for x in (before, after)]
        # An axis that varies along another cannot be tested alone.
        alone = ((e, _reading((e,), sizes)) for e in (None, *parts))
        choices.append(
            [
                entry
                for entry, reading in alone
                if (entry is None or axes.total_size(entry, sizes) == size)
                and (reading is None or _is_moved(*lengths, reading, permutation, tolerance))
            ]
        )
    if math.prod(map(len, choices)) > MAX_READINGS:
        return []
    readings = (_reading(entries, sizes) for entries in itertools.product(*choices))
    return [reading for reading in readings if reading is not None]


def _reading(entries: Sequence[axes.Entry | None], sizes: Mapping[str, int]) -> Reading | None:
    """A reading of one value; None if a group in it varies along a missing one."""
    groups = {group.key for entry in entries for group in axes.groups_in(entry)}
    names = axes.format_entries(tuple(entries))
    try:
        return Reading({"": names}, {key: sizes[key] for key in groups})
    except ValueError:
        return None


def _is_moved(
    before: np.ndarray,
    after: np.ndarray,
    reading: Reading,
    permutation: Permutation,
    tolerance: float,
) -> bool:
    """True if a value has moved according to a reading."""
    own = {name: permutation[name] for name in reading.permutations}
    moved = apply_permutation(reading, own, {"": before})[""]
    scale = np.abs(before[np.isfinite(before)]).max(initial=0)
    return np.allclose(moved, after, rtol=0, atol=tolerance * scale, equal_nan=True)


def _plainest(readings: Sequence[Reading]) -> list[Reading]:
    """The readings with the fewest moving axes, without duplicates."""
    by_moves: dict[tuple, Reading] = {}
    for reading in readings:
        entries = reading.entries[""]
        by_moves.setdefault(tuple(e if e and sites.moves(e) else None for e in entries), reading)
    num_moving = {key: sum(entry is not None for entry in key) for key in by_moves}
    least = min(num_moving.values(), default=0)
    return [reading for key, reading in by_moves.items() if num_moving[key] == least]
