"""Section 2 and Table 1: how many weight vectors compute one function, and which.

Beside the paper's counts stand a check that the function stays, a network with streams that tie
layers together, and changes that pin units to their places.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rebasin_lab import datasets, models, pytrees, symmetry
from rebasin_lab.paper.claim import Claim, everywhere, whatever_the_profile
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import groups, symmetry_rows
from rebasin_lab.paper.sections.exercise import Exercise
from rebasin_lab.paper.sections.groups import Group
from rebasin_lab.paper.sections.record import Column, Figure, Record, Table
from rebasin_lab.paper.sections.study import Study
from rebasin_lab.paper.sections.swaps import LINES, NUM_IMAGES, shuffles, swaps
from rebasin_lab.paper.store import Trained
from rebasin_lab.symmetry import counting

__all__ = ["LINES", "shuffles", "swaps"]  # from another module, for the notebook

NAME = "01_symmetries"
NETWORKS = ("vit", "mlp", "resnet20", "vgg16", "resnet50")
CHANGES: Mapping[str, Callable] = {
    "nothing": lambda units: units,
    "+ 1 for every unit": lambda units: units + 1,
    "+ 0, 1, 2, ...": lambda units: units + jnp.arange(len(units)),
    "running sum": jnp.cumsum,
    "sorted": jnp.sort,
}
GROUPS: Mapping[str, Callable] = {"of most parameters": max, "of fewest parameters": min}
ATOMS = 82  # log10 of those in the observable universe, as in Table 1


def networks(profile: Profile) -> dict[str, Group]:
    """Return one of the profile's MLPs."""
    return {"MLP": groups.mlps(profile, [profile.seed])}


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
    """A network that is only looked at: nothing is computed with it.

    Attributes:
        model: the network.
        spec: its symmetries.
    """

    model: models.Model
    spec: symmetry.PermutationSpec

    @property
    def exponent(self) -> float:
        """The decimal logarithm of the number of its orders."""
        return symmetry.log10_num_symmetries(self.spec, self.model.shapes)

    @property
    def orders(self) -> str:
        """The number of its permutations and of its orders, in words."""
        return f"{len(self.spec.permutations)} permutations, 10^{self.exponent:.2f} orders"


@dataclasses.dataclass(frozen=True, eq=False)
class Networks(Record):
    """Networks of several architectures, built for the images of a data set when asked for.

    Attributes:
        data: that data set.
        width: of the MLP.
    """

    data: datasets.Dataset
    width: int

    @functools.cached_property
    def _looks(self) -> dict[tuple, Look]:
        return {}

    @functools.cached_property
    def images(self) -> np.ndarray:
        """Some images, for their shape."""
        return self.data.test_images[:8]

    def look(self, network: str, **sizes: Any) -> Look:
        """Return a network and its symmetries."""
        key = network, *sorted(sizes.items())
        if key not in self._looks:
            model = models.build_model(network, dataset=self.data, **sizes)
            spec = symmetry.infer_permutation_spec(model.apply, model.shapes, self.images)
            self._looks[key] = Look(model, spec)
        return self._looks[key]

    def figures(self) -> Iterator[Figure]:
        """Yield the symmetries of a ResNet20."""
        look = self.look("resnet20")
        rng = np.random.default_rng(0)
        drawn = jax.tree.map(
            lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), look.model.shapes
        )
        change = symmetry.verify_equivalence(
            look.model.apply, look.spec, drawn, self.images, num_trials=1
        )
        most = max(map(len, look.spec.permutations.values()))
        yield symmetry_rows.picture(
            "resnet20",
            look.spec,
            look.model.apply,
            look.model.shapes,
            self.images,
            title=f"One order of units is shared by up to {most} parameters of a ResNet20",
            caption=f"The symmetries of a ResNet20: {look.orders}. With all of them shuffled "
            f"the logits change by {change:.0e} of the largest.",
        )

    def at(self, network: str, change: str, group: str) -> Figure:
        """Return a network's symmetries with one bias or scale changed, for dials.

        Args:
            network: an architecture.
            change: a name in `CHANGES`.
            group: a name in `GROUPS`: whose bias or scale.
        """
        sizes = {"mlp": {"width": self.width}, "vit": {"num_blocks": 2}}
        look = self.look(network, **sizes.get(network, {}))
        places = look.spec.permutations
        chosen = GROUPS[group](places, key=lambda name: len(places[name]))
        leaf = next(path for path, _ in places[chosen] if len(look.spec.axes[path]) == 1)

        def changed(params: PyTree, images: Any) -> Any:
            def change_one(path: str, units: Any) -> Any:
                return CHANGES[change](units) if path == leaf else units

            return look.model.apply(pytrees.map_with_path(change_one, params), images)

        shapes = look.model.shapes
        spec = symmetry.infer_permutation_spec(changed, shapes, self.images)
        picture = symmetry_rows.picture(
            "symmetries",
            spec,
            look.model.apply,
            shapes,
            self.images,
            before=look.spec,
            title="Symmetries",
            caption=f"{network}: {Look(look.model, spec).orders}. To change: {leaf}, of the group "
            f"{chosen}.",
        )
        lost = len(symmetry_rows.pinned(picture.numbers))
        what = "as it is" if change == "nothing" else f"'{change}' in {leaf}"
        count = f"{lost or 'none'} of {len(places)} groups {'are' if lost > 1 else 'is'} pinned"
        return dataclasses.replace(picture, title=f"{network}, {what}: {count}")


def point_at(study: Study) -> Networks:
    """Return networks to look at, of the profile's data set and width."""
    return Networks(study.data, study.profile.width)


@dataclasses.dataclass(frozen=True, eq=False)
class Numbered(Record):
    """An MLP one of whose layers adds to each unit its number.

    Attributes:
        network: as it was trained.
        picture: of the symmetries that are left.
        changes: of the logits when shuffled by a spec, relative to the largest.
    """

    network: Trained
    picture: Figure
    changes: Mapping[str, float]

    def table(self) -> Table:
        """Return what becomes of the function when it is shuffled by either spec."""
        percentages = [100 * change for change in self.changes.values()]
        return Table(
            rows=[*self.changes],
            columns=[Column("change of logits", "% of the largest", percentages, digits=1)],
            corner="numbered MLP, shuffled by",
        )

    def figures(self) -> Iterator[Figure]:
        """Yield the symmetries that are left."""
        yield self.picture


def numbered(study: Study, network: Trained, apply_fn: Callable) -> Numbered:
    """Hold a function of an MLP's parameters, with its own symmetries, against the MLP.

    Args:
        study: the section at work.
        network: the MLP.
        apply_fn: the function, `apply_fn(params, images) -> logits`.
    """
    params, images = network.params, jnp.asarray(study.data.test_images[:NUM_IMAGES])
    before = symmetry.infer_permutation_spec(network.model.apply, params, images)
    own = symmetry.infer_permutation_spec(apply_fn, params, images)
    picture = symmetry_rows.picture(
        "pinned",
        own,
        network.model.apply,
        params,
        images,
        before=before,
        title=f"Numbered units: {len(own.permutations)} of {len(before.permutations)} groups can "
        "still be reordered",
        caption="The MLP with numbered units in a hidden layer: what is pinned, and what is as "
        "free as before.",
    )
    changes = {
        name: symmetry.verify_equivalence(apply_fn, spec, params, images)
        for name, spec in {"the spec of the MLP": before, "its own spec": own}.items()
    }
    return Numbered(network, dataclasses.replace(picture, networks=[network]), changes)


@dataclasses.dataclass(frozen=True, eq=False)
class Counts(Record):
    """The number of symmetries of several networks, as its decimal logarithm.

    Attributes:
        exact: by the spec, by network.
        printed: as Table 1 has it, summed from floors layer by layer.
    """

    exact: Mapping[str, float]
    printed: Mapping[str, int]

    def table(self) -> Table:
        """Return both counts."""
        return Table(
            rows=[*self.exact],
            columns=[
                Column("exact", "log10", [*self.exact.values()], digits=2),
                Column("as Table 1 counts", "log10", [*map(self.printed.get, self.exact)]),
            ],
            corner="network",
        )

    def figures(self) -> Iterator[Figure]:
        """Yield the counts as bars, on one linear scale."""
        exact, printed = self.exact["ResNet50"], self.printed["ResNet50"]
        bars = [
            ("atoms in the universe", ATOMS, "other"),
            *((name, value, "exact") for name, value in self.exact.items() if name != "ResNet50"),
            ("ResNet50, as printed", printed, "paper"),
            ("ResNet50, streams tied", exact, "exact"),
        ]
        yield Figure(
            name="table1",
            plot="symmetry_counts",
            numbers={"bars": [{"name": n, "log10": v, "kind": k} for n, v, k in bars]},
            title="With streams tied, the number of a ResNet50's orders has "
            f"{100 * exact / printed:.0f} % of the digits of Table 1",
            caption="Table 1, and the ResNet20 of the paper's width experiment: how many "
            "permutations leave a network's function unchanged. Hatched: the paper's number "
            "for the ResNet50, which does not tie residual streams.",
            alt="Bars: " + ", ".join(f"{name} 10^{round(value)}" for name, value, _ in bars) + ".",
        )

    def claims(self) -> Mapping[str, Any]:
        """Return the exponents of Table 1; that of the ResNet50 by its spec."""
        return {
            "table1-mlp": self.printed["MLP, 3 x 512"],
            "table1-vgg16": self.printed["VGG16"],
            "table1-resnet50": math.floor(self.exact["ResNet50"]),
        }


def counts(seen: Networks) -> Counts:
    """Count the orders of the networks of Table 1, and of ResNet20s."""
    mlp = seen.look("mlp", width=512, num_hidden_layers=3)
    widths = [*mlp.spec.sizes(mlp.model.shapes).values()]
    exact = {
        "ResNet20, 1x": seen.look("resnet20", width_multiplier=1).exponent,
        "MLP, 3 x 512": mlp.exponent,
        "VGG16": log10_num_orders(counting.VGG16_WIDTHS),
        "ResNet20, 32x": seen.look("resnet20", width_multiplier=32).exponent,
        "ResNet50": seen.look("resnet50").exponent,
    }
    printed = {
        "MLP, 3 x 512": counting.log10_by_paper(widths),
        "VGG16": counting.log10_by_paper(counting.VGG16_WIDTHS),
        "ResNet50": counting.log10_by_paper(counting.RESNET50_WIDTHS),
    }
    return Counts(exact, printed)


def log10_num_orders(widths: Sequence[int]) -> float:
    """Return the decimal logarithm of the number of orders of layers of these widths."""
    return math.fsum(counting.log10_factorial(int(width)) for width in widths)


EXERCISE = Exercise(
    oracle=log10_num_orders,
    cases=[([3],), ([2, 3],), ([64, 128],), ([512] * 3,)],
    hint="the logarithm of a product is a sum: `np.log10(np.arange(1, n + 1))`",
)

claim = functools.partial(Claim, notebook=NAME)

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="functional-equivalence",
        section="2",
        statement="Permuting the units of every hidden layer leaves the network's function as is.",
        paper="equal",
        quantity="largest change of a logit, relative to the largest logit",
        # float32 sums in another order: about 1e-6 after four layers.
        bounds=everywhere("below", 1e-5),
    ),
    claim(
        id="table1-mlp",
        section="Table 1",
        statement="An MLP with three hidden layers of 512 units has 10^3498 symmetries.",
        paper="3498",
        quantity="log10 of the count by the inferred spec, floors summed as in the paper",
        bounds=everywhere("equal to", 3498.0),
    ),
    claim(
        id="table1-vgg16",
        section="Table 1",
        statement="A VGG16 has 10^35160 symmetries.",
        paper="35160",
        quantity="log10 of the count, floors summed layer by layer as in the paper",
        bounds=everywhere("equal to", 35160.0),
    ),
    claim(
        id="table1-resnet50",
        section="Table 1",
        statement="A ResNet50 has 10^55109 symmetries.",
        paper="55109",
        quantity="log10 of the count by the inferred spec (residual streams tied), floored",
        bounds=everywhere("equal to", 55109.0),
        why=whatever_the_profile(
            "A slip of the paper: it counts every convolution as if it had an order of its own. "
            "All layers that a residual stream adds up share one, so there are far fewer."
        ),
    ),
)
