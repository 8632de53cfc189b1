"""Panels of the explorer as figure records and HTML; nothing here is live."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rebasin_lab import matching
from rebasin_lab.lab import figures
from rebasin_lab.lab.exploration import Exploration
from rebasin_lab.lab.plots.matching import LOOKS
from rebasin_lab.lab.widgets import fragments
from rebasin_lab.lab.widgets.dials import picture
from rebasin_lab.paper.sections.record import Column, Table


def label_of(method: str) -> str:
    """Return the name of a method on figures."""
    return LOOKS[method].label


@dataclasses.dataclass(frozen=True, eq=False)
class Pinned:
    """An exploration that stays beside others, and the method it is walked with.

    Attributes:
        exploration: that stays.
        method: one of its methods.
    """

    exploration: Exploration
    method: str

    def titles(self, other: Exploration) -> tuple[str, str]:
        """Return what tells this one and another apart, in a few words each."""
        mine, others = self.exploration.choices, other.choices
        both = mine.values, others.values
        names = [name for name in both[0] if both[0][name] != both[1][name]]
        return tuple(", ".join(_in_words(name, one[name]) for name in names) for one in both)


def _in_words(name: str, value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(map(label_of, value))
    return f"{name.replace('num_', '').replace('_', ' ')} {value or 'none'}"


def lines(
    exploration: Exploration,
    *,
    metric: str,
    splits: Sequence[str],
    pinned: Pinned | None = None,
) -> dict[str, Any]:
    """Return the figure of all lines from A to B, beside those of what is pinned."""
    numbers: dict[str, Any] = {"metric": metric, "splits": list(splits)}
    numbers |= {"curves": _curves(exploration)}
    said, size = _barriers_in_words(exploration), (6.4, 3.6)
    if pinned:
        there, here = pinned.titles(exploration)
        numbers |= {
            "title": here or "now",
            "pinned": {"title": there or "pinned", "curves": _curves(pinned.exploration)},
        }
        said += f"; pinned ({there}): {_barriers_in_words(pinned.exploration)}"
        size = (9.0, 3.4)
    return picture(
        "explored_lines",
        numbers,
        alt=f"{metric} on the line from A to B ({' and '.join(splits)}); test barriers in nats: "
        f"{said}",
        caption=f"{exploration.pair.title}; test barriers: {said} nats",
        # Two columns of names below the panel, which keeps its height.
        size=(size[0], size[1] + 0.2 * max(0, len(exploration.compared) * len(splits) / 2 - 4)),
    )


def _curves(exploration: Exploration) -> dict[str, Any]:
    return {name: one.curve.as_numbers() for name, one in exploration.compared.items()}


def _barriers_in_words(exploration: Exploration) -> str:
    compared = exploration.compared
    return ", ".join(f"{label_of(name)} {one.test_barrier:.3f}" for name, one in compared.items())


def barriers(exploration: Exploration, pinned: Pinned | None = None) -> str:
    """Return a table of the lines: how high each one's barrier is, and what its matcher took."""
    rows = [("", one, exploration.compared["naive"]) for one in exploration.compared.items()]
    if pinned:
        there, here = pinned.titles(exploration)
        compared = pinned.exploration.compared
        rows = [(f" ({here or 'now'})", *rest) for _, *rest in rows]
        rows += [(f" ({there or 'pinned'})", one, compared["naive"]) for one in compared.items()]
    found = [(one, naive) for _, (_, one), naive in rows]
    columns = [
        Column("train barrier", "nats", [one.train_barrier for one, _ in found]),
        Column("test barrier", "nats", [one.test_barrier for one, _ in found]),
        Column("of naive", "%", [_share(one.test_barrier, n.test_barrier) for one, n in found]),
        Column("matching", "s", [one.result and one.result.seconds for one, _ in found]),
    ]
    return Table([label_of(name) + which for which, (name, _), _ in rows], columns)._repr_html_()


def _share(barrier: float, naive: float) -> float | str:
    """Return a barrier in percent of the naive one, if there is one."""
    return 100 * barrier / naive if naive > 0 else "-"


def unit_order(exploration: Exploration, method: str, group: str) -> dict[str, Any]:
    """Return the figure of one layer's permutation, before and after."""
    numbers = exploration.unit_matrices(method, group)
    after = numbers["after"].diagonal().mean()
    return picture(
        "unit_order",
        {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in numbers.items()
        },
        alt=f"Units of {group} in A and in B, paired by {label_of(method)}: scattered in B's own "
        f"order, on the diagonal in A's; mean cosine of partners {after:.2f}",
        caption=f"{group}: circles are the pairs that {label_of(method)} made, their mean cosine "
        f"is {after:.2f}; the layers around it are lined up on both sides",
        size=(6.4, 2.8),
    )


def search(exploration: Exploration, method: str) -> dict[str, Any]:
    """Return the figure of a matcher's climb, and of the layers it leaves."""
    result = exploration.compared[method].result
    before, after = exploration.layers("naive"), exploration.layers(method)
    has_visits = matching.MATCHERS[method].has_visits
    lowest = min(after, key=after.get)
    return picture(
        "search",
        {
            "objective": list(result.objective),
            "quantity": result.quantity,
            "visits_per_sweep": len(exploration.groups()) if has_visits else 0,
            "layers": {path: [before[path], after[path]] for path in after},
        },
        alt=f"{label_of(method)}: {result.quantity} from {result.objective[0]:.4g} to "
        f"{result.objective[-1]:.4g}; layers nearest and farthest: "
        f"{max(after, key=after.get)} {max(after.values()):.2f}, {lowest} {after[lowest]:.2f}",
        caption=f"{label_of(method)}, {result.num_sweeps} sweeps in {result.seconds:.2f} s",
        size=(7.6, 3.4),
    )


def landscape(exploration: Exploration, method: str, numbers: dict[str, Any]) -> dict[str, Any]:
    """Return the figure of the plane through A, B and permuted B."""
    return picture(
        "contour",
        numbers,
        alt=f"Test loss on the plane through A, B and B permuted by {label_of(method)}: a ridge "
        "between A and B, a valley from A to permuted B",
        caption=f"B permuted by {label_of(method)}",
        size=(5.6, 4.2),
    )


def training(histories: Mapping[str, Any], *, num_epochs: int) -> dict[str, Any]:
    """Return the figure of networks that are being trained."""
    name, history = list(histories.items())[-1]
    return picture(
        "history",
        {"histories": histories, "num_epochs": num_epochs},
        alt=f"Network {name} after epoch {len(history['test_loss'])} of {num_epochs}: test loss "
        f"{history['test_loss'][-1]:.3f} nats",
        size=(7.6, 2.4),
    )


def walk(
    exploration: Exploration, method: str, lam: float, *, which: str = "", disagreeing: bool = False
) -> str:
    """Return the panel of the network at lambda: its metrics and its answers.

    Args:
        exploration: of the two networks.
        method: the matcher whose permutation B has.
        lam: where on the line.
        which: of two explorations, in a few words.
        disagreeing: show images for which A, B and the network half-way name not one class.
    """
    step, data = exploration.walk(method, lam, disagreeing=disagreeing), exploration.pair.data
    names, chosen = data.class_names, step.images
    facts = (
        f"λ = {lam:.2f}, {label_of(method)}{which and f' ({which})'}: test accuracy "
        f"{100 * step.accuracy:.2f} %, test loss {step.loss:.4f} nats"
    )
    ends = {}
    if disagreeing:
        facts += (
            f"; A, B and the network half-way name not one class for "
            f"{len(exploration.disagreements(method))} of {len(data.test_labels)} test images"
        )
        ends = {
            name: [names[answer] for answer in answers[chosen]]
            for name, answers in exploration.answers_of_ends.items()
        }
    shown = fragments.strip(
        data.test_images[chosen],
        [names[label] for label in data.test_labels[chosen]],
        [(names[answer], chance) for answer, chance in step.answers],
        method=label_of(method),
        ends=ends,
    )
    return fragments.note(facts) + shown


def first_layer(exploration: Exploration, method: str, lam: float) -> str:
    """Return the weights of the first layer at lambda, if there are any to look at."""
    if not exploration.first_layer:
        return ""
    limit = float(np.percentile(np.abs(exploration.filters("naive", 0.0)), 99))
    return fragments.filters(exploration.filters(method, lam), limit)


def page(exploration: Exploration, lam: float) -> str:
    """Return all panels without controls."""
    method = exploration.methods[-1]
    records = [lines(exploration, metric="loss", splits=("train", "test"))]
    if method != "naive":
        records += [
            *(unit_order(exploration, method, group) for group in exploration.groups()[:1]),
            search(exploration, method),
            landscape(exploration, method, exploration.contour(method)),
        ]
    first, *others = [figures.as_html(record) for record in records]
    walked = walk(exploration, method, lam) + first_layer(exploration, method, lam)
    return "\n".join([first, barriers(exploration), walked, *others])
