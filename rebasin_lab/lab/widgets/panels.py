"""Panels of the explorer as figure records and HTML; nothing here is live."""

from collections.abc import Sequence
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


def lines(exploration: Exploration, *, metric: str, splits: Sequence[str]) -> dict[str, Any]:
    """Return the figure of all lines from A to B."""
    barriers = ", ".join(
        f"{label_of(name)} {one.test_barrier:.3f}" for name, one in exploration.compared.items()
    )
    return picture(
        "explored_lines",
        {
            "curves": {name: one.curve.as_numbers() for name, one in exploration.compared.items()},
            "metric": metric,
            "splits": list(splits),
        },
        alt=f"{metric} on the line from A to B ({' and '.join(splits)}); test barriers in nats: "
        f"{barriers}",
        caption=f"{exploration.pair.title}; test barriers: {barriers} nats",
        # Two columns of names below the panel, which keeps its height.
        size=(6.4, 4.0 + 0.2 * max(0, len(exploration.compared) * len(splits) / 2 - 4)),
    )


def barriers(exploration: Exploration) -> str:
    """Return a table of the lines: how high each one's barrier is, and what its matcher took."""
    compared = exploration.compared
    naive = compared["naive"].test_barrier
    columns = [
        Column("train barrier", "nats", [one.train_barrier for one in compared.values()]),
        Column("test barrier", "nats", [one.test_barrier for one in compared.values()]),
        Column("of naive", "%", [_share(one.test_barrier, naive) for one in compared.values()]),
        Column("matching", "s", [one.result and one.result.seconds for one in compared.values()]),
    ]
    return Table([label_of(name) for name in compared], columns)._repr_html_()


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
        size=(6.4, 3.4),
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


def walk(exploration: Exploration, method: str, lam: float) -> str:
    """Return the panel of the network at lambda: its metrics and its answers."""
    step, data = exploration.walk(method, lam), exploration.pair.data
    names = data.class_names
    chosen = exploration.strip
    facts = (
        f"λ = {lam:.2f}, {label_of(method)}: test accuracy {100 * step.accuracy:.2f} %, "
        f"test loss {step.loss:.4f} nats"
    )
    shown = fragments.strip(
        data.test_images[chosen],
        [names[label] for label in data.test_labels[chosen]],
        [(names[answer], chance) for answer, chance in step.answers],
        method=label_of(method),
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
