"""Seeded splits as arrays of indices: those of the paper, and stratified parts.

Indices can be stored, compared and passed to `Dataset.subset`. Random numbers are of NumPy's
`default_rng`, as in the paper's code, so the label-biased split of a seed is the same.

Do not use every second image, or the first half, as a part: labels are interleaved in some sets
(the embedded ones and a packed CIFAR-100) and sorted in others. Use `stratified_parts`.
"""

import numpy as np
from jaxtyping import Bool, Int, Integer

from rebasin_lab import checks


@checks.arguments
def label_biased_split(
    labels: Integer[np.ndarray, " num"],
    num_classes: checks.Count,
    *,
    seed: checks.Seed = 123,
    minority: checks.Fraction = 0.2,
) -> tuple[Int[np.ndarray, " num_a"], Int[np.ndarray, " num_b"]]:
    """Split all examples in two, each part biased to half of the classes.

    The split-data experiment of Ainsworth et al. 2022, section 5.4: dataset A has 20 % of the
    examples with labels in the lower half and 80 % of those in the upper half, B the rest.
    Stratified by half, not by class.

    Args:
        labels: one class index per example.
        num_classes: K; an example is in the lower half if its label is below K / 2.
        seed: of the shuffle; the paper's is 123.
        minority: fraction of the lower half in A, and of the upper half in B.

    Returns:
        Indices of A (lower-half examples first) and of B (upper-half examples first).
    """
    _check_labels(labels, num_classes)
    order = np.random.default_rng(seed).permutation(len(labels))
    is_low = labels[order] < num_classes / 2
    low, high = order[is_low], order[~is_low]
    num_low, num_high = round(minority * len(low)), round(minority * len(high))
    indices_a = np.concatenate([low[:num_low], high[num_high:]])
    indices_b = np.concatenate([high[:num_high], low[num_low:]])
    return indices_a, indices_b


def stratified_parts(
    labels: Integer[np.ndarray, " num"], num_parts: int = 2, *, seed: int = 0
) -> tuple[Int[np.ndarray, " _"], ...]:
    """Split all examples into random parts, each with its share of every class.

    For fitting on one part and measuring on another. A class with fewer examples than there are
    parts is in as many of them as it has examples, drawn at random.

    Args:
        labels: one class index per example.
        num_parts: the number of parts; their sizes differ by one at most, and so do their counts
            of a class.
        seed: of the shuffle.

    Returns:
        Indices of each part, in ascending order.

    Raises:
        ValueError: for labels that are no class indices, fewer than one part, or fewer examples
            than parts.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Expected labels to be one class index an example; got {labels.dtype} of shape "
            f"{labels.shape}."
        )
    if not isinstance(num_parts, int | np.integer) or num_parts is True or num_parts < 1:
        raise ValueError(f"Expected num_parts to be a whole number, 1 or more; got {num_parts}.")
    if len(labels) < num_parts:
        raise ValueError(
            f"Expected as many examples as parts or more; got {len(labels)} for {num_parts}. "
            "Take fewer parts or more examples."
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    classes, ranks = np.unique(labels, return_inverse=True)
    # In random order of classes, else the remainders of every second class would all go to one
    # part.
    ranks = rng.permutation(len(classes))[ranks]
    by_class = order[np.argsort(ranks[order], kind="stable")]
    return tuple(np.sort(by_class[part::num_parts]) for part in range(num_parts))


@checks.arguments
def random_halves(
    num_examples: checks.Natural, *, seed: checks.Seed
) -> tuple[Int[np.ndarray, " half"], Int[np.ndarray, " rest"]]:
    """Two disjoint random halves of the examples; the second has one more if the number is odd.

    The first is the training set of each of the paper's 32 models (section A.10). It is not
    stratified; to fit on one part and measure on another, use `stratified_parts`.
    """
    order = np.random.default_rng(seed).permutation(num_examples)
    return order[: num_examples // 2], order[num_examples // 2 :]


def _check_labels(labels: Integer[np.ndarray, " num"], num_classes: int) -> None:
    if not labels.size or labels.min() < 0 or labels.max() >= num_classes:
        got = f"{labels.min()} to {labels.max()}" if labels.size else "none"
        raise ValueError(
            f"Expected labels below num_classes, {num_classes}, one or more; got {got}."
        )


def every_fifth_of_each_class(labels: Integer[np.ndarray, " num"]) -> Bool[np.ndarray, " num"]:
    """True for the 5th, 10th, ... example of each class: a stratified test split without a seed."""
    return _rank_in_class(labels) % 5 == 4


def classes_in_turn(labels: Integer[np.ndarray, " num"]) -> Int[np.ndarray, " num"]:
    """The order that takes one example of each class in turn.

    For sets stored class by class, whose first images would all be of one class.
    """
    return np.lexsort((labels, _rank_in_class(labels)))


def _rank_in_class(labels: Integer[np.ndarray, " num"]) -> Int[np.ndarray, " num"]:
    rank = np.empty(len(labels), int)
    for label in np.unique(labels):
        rank[labels == label] = np.arange(np.count_nonzero(labels == label))
    return rank
