"""Lines between networks that normalise their units: loss, and the variance of units on the way.

The running statistics of BatchNorm are averaged like weights, or measured anew at every point.
LayerNorm has none. Of each kind the lines are those of several orders of B's units.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from rebasin_lab import datasets, matching, symmetry
from rebasin_lab.analysis import variance_collapse
from rebasin_lab.analysis.variance_collapse import LineWalk
from rebasin_lab.paper.cache import cached
from rebasin_lab.paper.sections.quantities import num_pairs, quantity
from rebasin_lab.paper.sections.record import Figure, Prose, Record, Table
from rebasin_lab.paper.sections.study import Study, quality_table, spec_of
from rebasin_lab.paper.store import Trained

# The claims are judged on Algorithm 1, the paper's; "weight" is ours, "random" the control.
METHODS = ("naive", "algorithm_1", "weight", "random")
AVERAGED, ANEW, NONE = "averaged", "anew", "none"
COLLAPSED = 0.7  # of the standard deviation, half of the variance: what the claims call a collapse
NUM_READ = 500  # images that units respond to
# Without stale statistics in a random order: the naive line says the same.
LINES = {
    "BatchNorm": [
        (method, statistics)
        for method in METHODS
        for statistics in (AVERAGED, ANEW)
        if (method, statistics) != ("random", AVERAGED)
    ],
    "LayerNorm": [(method, NONE) for method in METHODS],
}

Key = tuple[str, str, str]  # kind of network, method, statistics


@dataclasses.dataclass(frozen=True, eq=False)
class Walks(Record):
    """Lines between networks with BatchNorm, and with LayerNorm, and what units do there.

    Attributes:
        networks: by kind and seed.
        walks: by kind, method and statistics, one a pair.
        data: the images they are trained on.
        num_images: test images of the lines.
    """

    networks: Mapping[tuple[str, int], Trained]
    walks: Mapping[Key, Sequence[LineWalk]]
    data: datasets.Dataset
    num_images: int

    @property
    def num_pairs(self) -> int:
        """Pairs of each kind."""
        return len(next(iter(self.walks.values())))

    @property
    def lambdas(self) -> np.ndarray:
        """The points of every line."""
        return next(iter(self.walks.values()))[0].curve.lambdas

    @property
    def middle(self) -> int:
        """The place of the middle among them."""
        return len(self.lambdas) // 2

    def layers(self, network: str) -> list[str]:
        """Return the names of the layers of a kind, from the first on."""
        first = next(each[0] for (name, *_), each in self.walks.items() if name == network)
        return layer_names(first.layers)

    def accuracy(self, *key: str) -> list[float]:
        """Return the test accuracy half-way in %, one a pair."""
        return [100 * float(walk.curve.test_accuracy[self.middle]) for walk in self.walks[key]]

    def last_layer(self, *key: str) -> list[float]:
        """Return the standard deviation of what the last layer reads, half-way / ends."""
        return [float(walk.relative_std[self.middle, -1]) for walk in self.walks[key]]

    def quality(self) -> Table:
        """Return how well the networks are trained."""
        histories = {kind: [one.history for one in self.of_kind(kind)] for kind in LINES}
        return quality_table(histories, "train_loss", "test_accuracy", corner="networks")

    def reading(self) -> Prose:
        """Return in words what statistics and order are worth, on BatchNorm networks."""
        means = {key: float(np.mean(self.accuracy(*key))) for key in self.walks}
        matched = {what: means["BatchNorm", "algorithm_1", what] for what in (AVERAGED, ANEW)}
        naive, random = (means["BatchNorm", how, ANEW] for how in ("naive", "random"))
        gain = matched[ANEW] - matched[AVERAGED]
        if gain <= 0:
            verdict = "New statistics gain nothing here."
        elif max(naive, random) < matched[ANEW]:
            verdict = "Both steps help: the order of the units, and new statistics."
        else:
            verdict = "Any order of the units does as well here."
        return Prose(
            f"**What we measured** on {self.in_words}, {self.num_images:,} test images. Half-way, "
            f"after Algorithm 1, the network is right on {quantity(matched[AVERAGED], '%')} with "
            f"averaged statistics, and on {quantity(matched[ANEW], '%')} with new ones. New "
            f"statistics alone, without matching, give {quantity(naive, '%')}; in a random order "
            f"{quantity(random, '%')}. {verdict}"
        )

    def figures(self) -> Iterator[Figure]:
        """Yield loss and accuracy on the lines of BatchNorm networks."""
        means = {key: float(np.mean(self.accuracy(*key))) for key in self.walks}
        averaged, anew = (means["BatchNorm", "algorithm_1", what] for what in (AVERAGED, ANEW))
        yield Figure(
            name="mended_lines",
            numbers={
                "lambdas": self.lambdas.tolist(),
                "panels": [
                    {
                        "title": "Loss",
                        "ylabel": "test loss (nats)",
                        "lines": self.lines_of("BatchNorm", lambda w: w.curve.test_loss),
                    },
                    {
                        "title": "Accuracy",
                        "ylabel": "test accuracy (%)",
                        "lines": self.lines_of("BatchNorm", lambda w: 100 * w.curve.test_accuracy),
                    },
                ],
            },
            title=f"Half-way the matched network is right on {averaged:.0f} % with averaged "
            f"statistics, on {anew:.0f} % with new ones",
            caption="On the line between two ResNets with BatchNorm: running statistics "
            f"averaged like weights, or measured anew at every point; {self.in_words}, "
            f"{self.num_images:,} test images. The random order is a control.",
            alt=f"Test accuracy half-way, matched: statistics averaged {averaged:.0f} %, "
            f"measured anew {anew:.0f} %.",
            networks=self.of_kind("BatchNorm"),
            data=self.data,
            size=(9.0, 4.4),
        )

    def at(self, network: str, stop: int) -> Figure:
        """Return one point on the line of the first pair, for a dial: loss, and every layer."""
        first = {key[1:]: each[0] for key, each in self._drawn(network).items()}
        every = [each[0] for each in self.walks.values()]
        losses = np.concatenate([walk.curve.test_loss for walk in every])
        lines = [
            {
                "method": method,
                "statistics": statistics,
                "loss": walk.curve.test_loss.tolist(),
                "spread": walk.relative_std[stop].tolist(),
            }
            for (method, statistics), walk in first.items()
        ]
        lam = self.lambdas[stop]
        return Figure(
            name="line_stop",
            numbers={
                "lambdas": self.lambdas.tolist(),
                "stop": stop,
                "layers": self.layers(network),
                "lines": lines,
                "most_loss": float(losses[np.isfinite(losses)].max()),
                "most_spread": float(max(np.nanmax(walk.relative_std) for walk in every)),
            },
            title=f"{network}, λ = {lam:.2f}",
            caption="The test loss there, and the standard deviation of what each layer reads.",
            alt=f"{network} at λ = {lam:.2f}. Test loss: "
            + ", ".join(
                f"{one['method']} {one['statistics']} {one['loss'][stop]:.2f}" for one in lines
            )
            + ".",
            networks=self.of_kind(network),
            data=self.data,
            size=(10.0, 4.6),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return gains of accuracy by new statistics, in points."""
        gain = np.subtract(
            *(self.accuracy("BatchNorm", "algorithm_1", what) for what in (ANEW, AVERAGED))
        )
        return {"a4-batchnorm-reset": gain}

    @property
    def in_words(self) -> str:
        """The number of pairs."""
        return num_pairs(self.num_pairs) + (" and their mean" if self.num_pairs > 1 else "")

    def of_kind(self, network: str) -> list[Trained]:
        """Return the networks of a kind."""
        return [one for (name, _), one in self.networks.items() if name == network]

    def _drawn(self, network: str) -> dict[Key, Sequence[LineWalk]]:
        """Return what figures show of a kind: five lines at most, without our matcher."""
        return {
            key: each
            for key, each in self.walks.items()
            if key[0] == network and key[1] != "weight"
        }

    def lines_of(
        self, network: str, values: Callable[[LineWalk], Float[np.ndarray, " n"]]
    ) -> list[dict[str, Any]]:
        """Return what plots draw of a kind: `values` of each walk."""
        return [
            {
                "method": method,
                "statistics": statistics,
                "values": [values(walk).tolist() for walk in each],
            }
            for (_, method, statistics), each in self._drawn(network).items()
        ]


def walk_lines(study: Study) -> Walks:
    """Train both kinds of network, match their pairs, and walk the lines between them."""
    trained, profile = study.train("normed"), study.profile
    data = profile.batch_norm.load_dataset()
    line_data = profile.normed(data)
    pairs = profile.pairs[: profile.num_normed_pairs]
    walks: dict[Key, list[LineWalk]] = {}
    with study.bar(sum(map(len, LINES.values())) * len(pairs), "walking lines") as bar:
        for (name, lines), pair in itertools.product(LINES.items(), pairs):
            ends = [trained[name, seed] for seed in pair]
            model = ends[0].model
            spec = spec_of(ends[0], data)
            moved = _orders(spec, ends)
            for method, statistics in lines:
                anew = data.train_images[: profile.num_statistics_images]
                walk = cached(
                    variance_collapse.walk_line,
                    model,
                    spec,
                    ends[0].params,
                    moved[method],
                    line_data,
                    images=line_data.test_images[:NUM_READ],
                    num_lambdas=min(profile.num_lambdas, profile.num_normed_lambdas),
                    statistics_from=anew if statistics == ANEW else None,
                )
                walks.setdefault((name, method, statistics), []).append(walk)
                bar.update()
    return Walks(trained, walks, data, len(line_data.test_labels))


def _orders(spec: symmetry.PermutationSpec, ends: Sequence[Trained]) -> dict[str, Any]:
    """Return B with its units in the order of each method."""
    params = [end.params for end in ends]
    return {"naive": params[1]} | {
        method: symmetry.apply_permutation(
            spec, cached(matching.match, method, spec, *params).permutation, params[1]
        )
        for method in METHODS
        if method != "naive"
    }


def layer_names(layers: Sequence[str]) -> list[str]:
    """Return names for readers: "block 1, conv 1" for "into stages/0/0/conv1/kernel"."""
    names, blocks = [], {}
    for layer in layers:
        parts = layer.removeprefix("into ").removesuffix("/kernel").split("/")
        if parts[0] == "stages":
            number = blocks.setdefault(tuple(parts[:3]), len(blocks) + 1)
            place = "/".join(parts[3:]).replace("conv", "conv ")
            names.append(f"block {number}, {place}")
        else:
            names.append("/".join(parts))
    return names
