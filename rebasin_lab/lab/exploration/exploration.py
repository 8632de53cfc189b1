"""An exploration: a matched pair, and the numbers of every panel."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree

from rebasin_lab import checks, datasets, matching, merging, metrics, pytrees, symmetry
from rebasin_lab.analysis import comparison, interpolation
from rebasin_lab.lab.exploration import code
from rebasin_lab.lab.exploration.choices import Choices
from rebasin_lab.lab.exploration.pair import OnStep, Pair, load_pair, say_nothing
from rebasin_lab.paper import cache, fingerprints

STRIP = 10  # test images shown with their answers
NUM_FILTERS = 16
NUM_UNITS = 48  # of a layer, that a matrix shows
STATISTICS_IMAGES = 500  # one batch, a tenth of a second: a walk re-estimates at every step
# A plane has many models; few images show its shape.
CONTOUR_IMAGES = 400
CLASSES_ONLY = (
    "An exploration shows which classes networks name. Look at others with compare_matchers, which "
    "takes a loss_fn."
)
CONTOUR_RESOLUTION = 17


@dataclasses.dataclass(frozen=True, eq=False)
class Walk:
    """One network on the line: its metrics and its answers.

    Attributes:
        loss: on all test images, in nats.
        accuracy: a fraction.
        images: indices of the test images shown.
        answers: for each of these, its class and the probability given to it.
    """

    loss: float
    accuracy: float
    images: np.ndarray
    answers: tuple[tuple[int, float], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Exploration:
    """Two networks and the answers of matchers.

    Attributes:
        choices: of the explorer.
        pair: the networks.
        compared: by method, "naive" first; see `comparison.compare_matchers`.
    """

    choices: Choices
    pair: Pair
    compared: Mapping[str, comparison.Comparison]

    @property
    def methods(self) -> tuple[str, ...]:
        """The matchers, after "naive"."""
        return tuple(self.compared)

    @functools.cached_property
    def moved(self) -> Mapping[str, PyTree]:
        """B as each method permutes it."""
        return {
            name: jax.device_put(
                symmetry.apply_permutation(self.pair.spec, one.permutation, self.pair.params_b)
            )
            for name, one in self.compared.items()
        }

    @checks.arguments
    def merged(self, method: str, lam: float) -> PyTree:
        """Return the network at lambda on the line from A to B as a method permutes it."""
        checks.choice("method", method, self.compared, "this exploration")
        params = _lerp(np.float32(lam), self.pair.params_a, self.moved[method])
        prepare = prepare_of(self.choices, self.pair)
        return prepare(params) if prepare else params

    @functools.cached_property
    def strip(self) -> np.ndarray:
        """Indices of test images: the first of each class, of the first classes."""
        labels = self.pair.data.test_labels
        firsts = [np.flatnonzero(labels == label)[:1] for label in range(labels.max() + 1)]
        return np.concatenate(firsts)[:STRIP]

    @functools.cached_property
    def answers_of_ends(self) -> dict[str, np.ndarray]:
        """The classes that A and B name for all test images."""
        return {"A": self._answers("naive", 0.0), "B": self._answers("naive", 1.0)}

    @checks.arguments
    def disagreements(self, method: str) -> np.ndarray:
        """Return the test images for which A, B and the network half-way name not one class.

        Those with most different answers come first.
        """
        if method not in self._disagreements:
            half_way = self._answers(method, 0.5)
            answers = np.sort([*self.answers_of_ends.values(), half_way], axis=0)
            others = (np.diff(answers, axis=0) != 0).sum(0)
            by_number = np.argsort(-others, kind="stable")
            self._disagreements[method] = by_number[: np.count_nonzero(others)]
        return self._disagreements[method]

    @functools.cached_property
    def _disagreements(self) -> dict[str, np.ndarray]:
        return {}

    def _answers(self, method: str, lam: float) -> np.ndarray:
        params, apply_fn = self.merged(method, lam), self.pair.apply_fn
        images, _ = self._test
        size = metrics.batch_size_for(apply_fn, params, images)
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        chances = [_probabilities(apply_fn, params, batch) for batch in batches]
        return np.concatenate([np.asarray(each).argmax(-1) for each in chances])

    @checks.arguments
    def walk(self, method: str, lam: float, *, disagreeing: bool = False) -> Walk:
        """Evaluate the merged network at lambda, live.

        Args:
            method: the matcher whose permutation B has.
            lam: where on the line.
            disagreeing: show images of `disagreements`, in place of one of each class.
        """
        images, labels = self._test
        params = self.merged(method, lam)
        measured = metrics.measure(self.pair.apply_fn, params, images, labels)
        shown = self.disagreements(method)[:STRIP] if disagreeing else self.strip
        # Always as many, so that nothing is compiled anew.
        few = self.pair.data.test_images[np.resize(shown, STRIP)]
        chances = _probabilities(self.pair.apply_fn, params, few)
        chances = np.asarray(chances)[: len(shown)]
        answers = tuple((int(row.argmax()), float(row.max())) for row in chances)
        return Walk(float(measured.loss), float(measured.accuracy), shown, answers)

    @functools.cached_property
    def _test(self) -> tuple[Array, Array]:
        data = self.pair.data
        return jax.device_put((data.test_images, data.test_labels))

    @functools.cached_property
    def first_layer(self) -> str:
        """The path of the weights that read the pixels; "" if there are none to look at."""
        height, width, channels = self.pair.data.image_shape
        for path, leaf in pytrees.flatten(self.pair.params_a).items():
            reads_all = leaf.ndim == 2 and leaf.shape[0] == height * width * channels
            if reads_all or (leaf.ndim == 4 and leaf.shape[2] == channels):
                return path
        return ""

    def filters(self, method: str, lam: float) -> Float[np.ndarray, "n h w c"]:
        """Return merged weights from pixels to the strongest units of A's first layer.

        Raises:
            ValueError: if the network has no such weights.
        """
        if not self.first_layer:
            raise ValueError("Expected a first layer that reads pixels; there is none.")
        end_a, end_b = (
            np.asarray(pytrees.flatten(params)[self.first_layer])
            for params in (self.pair.params_a, self.moved[method])
        )
        strongest = np.argsort(-np.square(end_a).reshape(-1, end_a.shape[-1]).sum(0))[:NUM_FILTERS]
        merged = (1 - lam) * end_a[..., strongest] + lam * end_b[..., strongest]
        shape = self.pair.data.image_shape if merged.ndim == 2 else merged.shape[:3]
        return np.moveaxis(merged.reshape(*shape, -1), -1, 0)

    def groups(self) -> tuple[str, ...]:
        """Return the permutations whose units a matrix can show: those that vary along none."""
        return tuple(
            name
            for name, group in self.pair.spec.groups.items()
            if not group.parents and not group.is_fixed
        )

    @checks.arguments
    def unit_matrices(self, method: str, group: str) -> dict[str, Any]:
        """Return the similarity of units of A and of B, before a layer is put in order and after.

        The layers around it are aligned in both.

        Returns:
            "before" and "after": cosine similarities, rows are the first units of A; columns
            "before" are their partners in the order in which B has them, "after" in A's.
            "partners": for each row the column of its partner "before". "num_units" of the group.
        """
        checks.choice("method", method, self.compared, "this exploration")
        checks.choice("group", group, self.groups(), "this exploration")
        order = np.asarray(self.compared[method].permutation[group])
        rows_a, rows_b = (
            self._units(params, group) for params in (self.pair.params_a, self.moved[method])
        )
        first = np.arange(min(NUM_UNITS, len(order)))
        after = rows_a[first] @ rows_b[first].T
        by_own_order = np.argsort(order[first])
        return {
            "before": after[:, by_own_order],
            "after": after,
            "partners": np.argsort(by_own_order),
            "num_units": len(order),
        }

    def _units(self, params: PyTree, group: str) -> Float[np.ndarray, "units weights"]:
        """Return all weights of each unit of a group, at length one."""
        spec, blocks = symmetry.split_into_blocks(self.pair.spec, params)
        parts = [
            np.moveaxis(np.asarray(blocks[path], np.float32), axis, 0).reshape(
                blocks[path].shape[axis], -1
            )
            for path, names in spec.axes.items()
            for axis, name in enumerate(names)
            if name == group
        ]
        rows = np.concatenate(parts, axis=1)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    @checks.arguments
    def layers(self, method: str) -> dict[str, float]:
        """Return the cosine of each layer's weights in A and in B as permuted, by path."""
        checks.choice("method", method, self.compared, "this exploration")
        flat_a, flat_b = (
            pytrees.flatten(params) for params in (self.pair.params_a, self.moved[method])
        )
        return {
            path: _cosine(flat_a[path], flat_b[path])
            for path, leaf in flat_a.items()
            if leaf.ndim > 1
        }

    @checks.arguments
    def contour(self, method: str, *, on_step: OnStep | None = None) -> dict[str, Any]:
        """Return what the plot "contour" draws: test loss on the plane through A, B and permuted B.

        Raises:
            ValueError: for a method that leaves B where it is.
        """
        checks.choice("method", method, self.compared, "this exploration")
        data, total, done = self.pair.data, CONTOUR_RESOLUTION**2, 0
        # A user's data set may be stored class by class.
        few = datasets.classes_in_turn(data.test_labels)[:CONTOUR_IMAGES]

        def on_point() -> None:
            nonlocal done
            done += 1
            if on_step is not None:
                on_step("loss on the plane", done, total)

        plane = _computed(
            interpolation.loss_contour,
            self.pair.apply_fn,
            self.pair.params_a,
            self.pair.params_b,
            self.moved[method],
            data.test_images[few],
            data.test_labels[few],
            resolution=CONTOUR_RESOLUTION,
            on_point=on_point,
        )
        naive = self.compared["naive"].curve.test_loss
        naive = naive[np.isfinite(naive)]  # a line may overflow in between
        cap = round(max(1.0, *naive[[0, -1]], min(float(naive.max()), 3.0)), 1)
        return {**plane.as_numbers(), "cap": float(cap)}

    @checks.arguments
    def as_code(self, method: str, lam: float) -> str:
        """Return a program that computes the lines, and the network at lambda."""
        checks.choice("method", method, self.compared, "this exploration")
        return code.code_of(
            self.choices,
            self.pair.data,
            self.pair.code,
            method=method,
            lam=lam,
            num_images=STATISTICS_IMAGES,
        )


@checks.arguments
def explore_pair(
    choices: Choices,
    *,
    pair: Pair | None = None,
    on_step: OnStep | None = None,
    store: Path | None = None,
) -> Exploration:
    """Train or load two networks, match them, and walk the lines between them.

    Args:
        choices: of the explorer.
        pair: the networks, if they are there already.
        on_step: called as the work goes on; what it raises ends it.
        store: the folder of checkpoints.

    Raises:
        ValueError: as `compare_matchers`; for networks that do not name classes.
        OSError: for data or checkpoints that are not there.
    """
    report = on_step or say_nothing
    pair = pair or load_pair(choices, on_step=report, store=store)
    metrics.checked_data(pair.apply_fn, pair.params_a, pair.data, advice=CLASSES_ONLY)
    methods = ("naive", *choices.matchers)
    compared = {}
    for index, method in enumerate(methods):
        label = method.replace("_", " ")
        what = f"matching: {label}, and its line" if method != "naive" else "the naive line"
        report(what, index, len(methods))
        results = _match(choices, pair, method, report) if method != "naive" else {}
        compared |= _computed(
            comparison.compare_matchers,
            pair.spec,
            pair.params_a,
            pair.params_b,
            apply_fn=pair.apply_fn,
            data=pair.data,
            methods={method: choices.options_of(method, pair.data)},
            results=results,
            num_lambdas=choices.num_lambdas,
            prepare=prepare_of(choices, pair),
        )
    report("matched", len(methods), len(methods))
    return Exploration(choices, pair, compared)


def prepare_of(choices: Choices, pair: Pair) -> Callable[[PyTree], PyTree] | None:
    """Return what re-estimates the statistics of a merged network, if that was chosen."""
    if choices.statistics == "averaged":
        return None
    images = pair.data.train_images[:STATISTICS_IMAGES]
    model = pair.model or pair.apply_fn
    return functools.partial(merging.reestimate_statistics, model, images=images)


def _match(
    choices: Choices, pair: Pair, method: str, report: OnStep
) -> dict[str, matching.MatchingResult]:
    """Return a matcher's record, by its name."""

    def on_epoch(state: Any) -> None:
        report(f"matching: {method.replace('_', ' ')}", state.epoch, state.num_epochs)

    offered = {"apply_fn": pair.apply_fn, "data": pair.data, "on_epoch": on_epoch}
    options = matching.MATCHERS[method].accepted(offered) | choices.options_of(method, pair.data)
    return {
        method: _computed(
            matching.match, method, pair.spec, pair.params_a, pair.params_b, seed=0, **options
        )
    }


def _computed(fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return a result of the lab, cached unless it depends on a function of the user's own."""
    try:
        return cache.cached(fn, *args, **options)
    except fingerprints.UnknownContentError:
        return fn(*args, **options)


def _cosine(a: Any, b: Any) -> float:
    a, b = (np.asarray(x, np.float64).ravel() for x in (a, b))
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30))


@jax.jit
def _lerp(lam: Array, params_a: PyTree, params_b: PyTree) -> PyTree:
    return pytrees.lerp(lam, params_a, params_b)


@functools.partial(jax.jit, static_argnames="apply_fn")
def _probabilities(apply_fn: Any, params: PyTree, images: Array) -> Array:
    return jax.nn.softmax(apply_fn(params, images))
