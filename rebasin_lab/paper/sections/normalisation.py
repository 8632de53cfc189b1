"""Appendix A.4: what does averaging do to networks that normalise their units?

`normed_lines` walks lines between networks with BatchNorm, whose running statistics go stale, and
with LayerNorm. `channel_norms` asks which orders of channels other norms allow.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rebasin_lab.paper.claim import Claim, everywhere
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections.channel_norms import permute_channels
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.normed_lines import (
    ANEW,
    AVERAGED,
    COLLAPSED,
    NONE,
    Walks,
    walk_lines,
)
from rebasin_lab.paper.sections.pair_lines import NAMES
from rebasin_lab.paper.sections.quantities import quantity
from rebasin_lab.paper.sections.record import Column, Figure, Prose, Record, Table

__all__ = ["permute_channels", "walk_lines"]  # from other modules, for the notebook

NAME = "09_normalisation"


def bases(profile: Profile) -> dict[str, Experiment]:
    """Return the two kinds of network, by what they normalise with."""
    return {"BatchNorm": profile.batch_norm, "LayerNorm": profile.layer_norm}


def measured_on(profile: Profile) -> str:
    """Say in a phrase what the claims are measured on."""
    return f"{profile.batch_norm.load_dataset().title}, " + "; ".join(
        base.networks for base in bases(profile).values()
    )


def networks(profile: Profile) -> dict[str, Group]:
    """Return the networks of both kinds, by kind and seed."""
    return {
        "normed": {
            (name, seed): base.with_seed(seed)
            for name, base in bases(profile).items()
            for seed in profile.seeds[: 2 * profile.num_normed_pairs]
        }
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Collapse(Record):
    """What the layers read half-way between two networks, in units of what they read at the ends.

    Attributes:
        lines: between the networks.
    """

    lines: Walks

    def table(self) -> Table:
        """Return all kinds of line, half-way."""
        names = {AVERAGED: ", statistics averaged", ANEW: ", measured anew", NONE: ""}
        walks = self.lines.walks
        return Table(
            rows={key: f"{key[0]}, {NAMES[key[1]]}{names[key[2]]}" for key in walks},
            corner="half-way",
            columns=[
                Column("test accuracy", "%", lambda key: self.lines.accuracy(*key)),
                Column(
                    "standard deviation, last layer / ends",
                    "",
                    lambda key: self.lines.last_layer(*key),
                    digits=2,
                ),
            ],
        )

    def _last(self) -> dict[str, float]:
        """Return the standard deviation of what the last layer reads, after Algorithm 1."""
        kinds = {
            "averaged": ("BatchNorm", AVERAGED),
            "anew": ("BatchNorm", ANEW),
            "LayerNorm": ("LayerNorm", NONE),
        }
        return {
            name: float(np.mean(self.lines.last_layer(network, "algorithm_1", statistics)))
            for name, (network, statistics) in kinds.items()
        }

    def reading(self) -> Prose:
        """Return in words where the variance collapses."""
        last = self._last()
        accuracy = self.lines.accuracy("LayerNorm", "algorithm_1", NONE)
        layer = (
            "LayerNorm keeps its variance without any of this, as the paper says."
            if last["LayerNorm"] >= COLLAPSED
            else "LayerNorm loses variance there, too, and has no statistics to blame: half-way "
            f"these networks are right on {quantity(accuracy, '%')}. Where two networks are not "
            "joined, the average of units that disagree varies less than each of them."
        )
        return Prose(
            f"**What we measured.** What the last layer reads keeps {last['averaged']:.2f} of its "
            f"standard deviation with averaged statistics, {last['anew']:.2f} with new ones, "
            f"{last['LayerNorm']:.2f} with LayerNorm (after Algorithm 1). {layer}"
        )

    def figures(self) -> Iterator[Figure]:
        """Yield the standard deviation of all layers half-way."""
        last = self._last()
        yield Figure(
            name="collapse",
            numbers={
                "panels": [
                    {
                        "title": name,
                        "layers": self.lines.layers(name),
                        "lines": self.lines.lines_of(
                            name, lambda w: w.relative_std[self.lines.middle]
                        ),
                    }
                    for name in ("BatchNorm", "LayerNorm")
                ]
            },
            title=f"The last layer keeps {last['averaged']:.2f} of its variation with "
            f"averaged statistics, {last['anew']:.2f} with new ones",
            caption="The standard deviation of what each layer reads, half-way between two "
            f"networks, divided by the mean of the ends; {self.lines.in_words}.",
            alt=f"In the last layer, matched: BatchNorm with averaged statistics "
            f"{last['averaged']:.2f}, measured anew {last['anew']:.2f}; LayerNorm "
            f"{last['LayerNorm']:.2f}.",
            networks=[*self.lines.networks.values()],
            data=self.lines.data,
            size=(9.5, 4.6),
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the standard deviation of the last layer."""
        lines = self.lines
        return {
            "a4-batchnorm-collapse": lines.last_layer("BatchNorm", "algorithm_1", AVERAGED),
            "a4-layernorm-fine": lines.last_layer("LayerNorm", "algorithm_1", NONE),
        }


def _half_way_std(correlation: float) -> float:
    """Return the standard deviation of the mean of two units that vary by 1 each."""
    return float(np.sqrt((1 + correlation) / 2))


EXERCISE = Exercise(
    oracle=_half_way_std,
    cases=[(1.0,), (0.0,), (0.5,), (-1.0,)],
    hint="the variance of a sum is the sum of both variances and twice the covariance",
)

claim = functools.partial(Claim, notebook=NAME)

CLAIMS: tuple[Claim, ...] = (
    # One bound for a collapse and for its absence: 0.7 of the standard deviation is half of the
    # variance. The layer is the last that has hidden units to read; losses of layers before it
    # have added up by then.
    claim(
        id="a4-batchnorm-collapse",
        section="A.4",
        statement="Half-way between matched BatchNorm networks the variance of units collapses.",
        paper="variance collapse",
        quantity="standard deviation of what the last layer reads, half-way / mean of the ends",
        bounds=everywhere("at most", COLLAPSED),
    ),
    claim(
        id="a4-batchnorm-reset",
        section="A.4",
        statement="Measuring BatchNorm's statistics anew mends the merged network.",
        paper="recommended",
        quantity="test accuracy half-way, matched, statistics measured anew - averaged (points)",
        # REPAIR reports gains of 15 to 79 points.
        bounds=everywhere("at least", 10.0),
    ),
    claim(
        id="a4-layernorm-fine",
        section="A.4",
        statement="LayerNorm networks are free of that: nothing need be measured anew.",
        paper="fine",
        quantity="standard deviation of what the last layer reads, half-way / mean of the ends",
        bounds=everywhere("at least", COLLAPSED),
        why={
            "quick": "The last layer reads means after the last sum, which nothing normalises. "
            "These networks are not joined, and where their units disagree the average varies "
            "less."
        },
    ),
    claim(
        id="a4-instancenorm",
        section="A.4",
        statement="InstanceNorm allows every permutation of channels (fine in principle).",
        paper="not tried",
        quantity="largest change of an output by random permutations, relative to the largest",
        bounds=everywhere("below", 1e-5),  # float32 sums in another order
    ),
    claim(
        id="a4-groupnorm",
        section="A.4",
        statement="GroupNorm does not allow every permutation of channels.",
        paper="not tried",
        quantity="largest change of an output by random permutations, relative to the largest",
        bounds=everywhere("at least", 0.01),  # ten thousand times the rounding
    ),
)
