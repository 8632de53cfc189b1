"""Merging in orders found from whole weights, activations, or what networks have learned."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

from jaxtyping import PyTree

from rebasin_lab import matching, merging, pytrees, symmetry
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections import answers
from rebasin_lab.paper.sections.answers import Scores
from rebasin_lab.paper.sections.merged_networks import MergedNetworks
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study


@dataclasses.dataclass(frozen=True, eq=False)
class Orders(Record):
    """What orders of units are made of, and what average they give. Ours, not the paper's.

    A network is its initial weights and its learned part, so an inner product of two has a part
    of each, and a mixed one.

    Attributes:
        search: whose networks they are.
        products: order -> mean inner product of two networks: all, initial, mixed, learned.
        scores: order -> of the average, on test images.
        by_number: way -> for two, three, ... networks, its scores.
    """

    search: MergedNetworks
    products: Mapping[str, tuple[float, float, float, float]]
    scores: Mapping[str, Sequence[Scores]]
    by_number: Mapping[str, Sequence[Scores]]

    def table(self) -> Table:
        """Return the parts of the inner product, and loss and error of the average, by order."""
        parts = zip(*self.products.values(), strict=True)
        headings = ("inner product: all", "initial", "mixed", "learned")
        return Table(
            rows=[*self.products],
            corner="lined up by",
            columns=[
                *(Column(*each, digits=1) for each in zip(headings, [""] * 4, parts, strict=True)),
                Column("test loss", "nats", lambda order: self.scores[order][0].loss),
                Column("test error", "%", lambda order: self.scores[order][0].error),
            ],
        )

    def reading(self) -> Prose:
        """Return in words which part MergeMany lines up, and if the learned part does better."""
        whole, initial, _, learned = self.products["MergeMany"]
        most = self.products["learned part"][3]
        merged, better = (self.scores[name][0].loss for name in ("MergeMany", "learned part"))
        verdict = "lower" if better < merged else "no lower"
        return Prose(
            f"Of the inner product that MergeMany reaches, {quantity(100 * initial / whole, '%')} "
            f"is agreement of *initial* weights, which are chance, and "
            f"{quantity(100 * learned / most, '%')} of the learned agreement that the order of the "
            "learned parts reaches is there. Averaged in that order, the same networks have a "
            f"{verdict} test loss: {quantity(better, 'nats')} against {quantity(merged, 'nats')}."
        )

    def figures(self) -> Iterator[Figure]:
        """Yield loss, and loss at the best temperature, by the number of merged networks."""
        counts = list(range(1, 1 + len(self.search.networks)))
        last = {way: scores[-1].loss for way, scores in self.by_number.items()}
        merged = ", ".join(
            f"{count}: {quantity(score.loss, 'nats')}"
            for count, score in zip(counts, self.by_number["MergeMany"], strict=True)
        )
        yield Figure(
            name="by_number",
            plot="merged_by_number",
            numbers={
                "counts": counts,
                "panels": [answers.panel(self.by_number, m) for m in ("loss", "tempered")],
            },
            title=f"{counts[-1]} merged networks have a test loss of "
            f"{quantity(last['MergeMany'], 'nats')}, one alone {quantity(last['single'], 'nats')}",
            caption="The first so many networks: on average, averaged as they came (out of the "
            "panel where it is worse), merged, merged in the order of their learned parts "
            "(ours), and as an ensemble. Right: all logits divided by the best temperature.",
            alt=f"Test loss of the merged network by number of networks: {merged}.",
            networks=self.search.networks,
            claims=["table3-test-loss"],
            size=(9.0, 3.8),
        )


def orders(study: Study, found: MergedNetworks) -> Orders:
    """Line networks up by whole weights, by activations and by their learned parts."""
    spec, params, learned = found.spec, found.params, found.learned
    options = {"apply_fn": found.networks[0].model.apply, "data": study.data}
    by_activations = [
        cached(matching.match, "activation", spec, params[0], each, **options).permutation
        for each in params[1:]
    ]
    every = {
        "MergeMany": found.merge.permutations,
        "activations": [symmetry.identity_permutation(spec, params[0]), *by_activations],
        "learned part": found.learned_orders(),
    }
    initial = [network.params_after(0) for network in found.networks]
    products, scores = {}, {}
    for name, order in every.items():
        whole, chance, wanted = (
            _mean_product(
                [symmetry.apply_permutation(spec, o, p) for o, p in zip(order, each, strict=True)]
            )
            for each in (params, initial, learned)
        )
        products[name] = (whole, chance, whole - chance - wanted, wanted)
        scores[name] = [found.says(found.in_orders(order))]
    by_number: dict[str, list[Scores]] = {}
    with study.bar(len(params), "merging more and more networks") as bar:
        for number in range(1, len(params) + 1):
            some = found.first(number)
            ways = some.ways()
            ways["learned part"] = [found.says(some.in_orders(some.learned_orders()))]
            for name, scores_of in answers.score_all(ways, found.data).items():
                by_number.setdefault(name, []).append(answers.mean(scores_of))
            bar.update()
    return Orders(found, products, answers.score_all(scores, found.data), by_number)


def _mean_product(models: Sequence[PyTree]) -> float:
    """The mean inner product of two of several models."""
    own = math.fsum(pytrees.inner_product(each, each) for each in models)
    average, count = merging.average(list(models)), len(models)
    both = count**2 * pytrees.inner_product(average, average) - own
    return both / (count * (count - 1))
