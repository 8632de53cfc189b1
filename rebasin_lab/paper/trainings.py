"""The networks that each notebook trains, for the notebook itself and for a dry run.

`trainings(notebook, profile)` has them in groups, and in each group by key: a seed, or a width and
a seed. A notebook trains a group with `run.train(group)`.
"""

from collections.abc import Callable

from rebasin_lab import checks
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.paper.profiles import Profile
from rebasin_lab.paper.sections import (
    counterexample,
    failures,
    line_and_barrier,
    merging_many,
    normalisation,
    onset,
    quickstart,
    split_data,
    symmetries,
    three_methods,
    weight_matching,
    width,
)
from rebasin_lab.paper.sections.groups import Group


@checks.arguments
def trainings(notebook: str, profile: Profile) -> dict[str, Group]:
    """Return the networks that a notebook asks the store for, by group and key.

    Args:
        notebook: its name, without ending.
        profile: the sizes of the run, single settings included.

    Returns:
        Groups in the order in which they are trained; one is empty where the profile has none.

    Raises:
        ValueError: for a notebook that trains none known here.
    """
    if notebook not in NOTEBOOKS:
        raise ValueError(f"Expected a notebook among {list(NOTEBOOKS)}; got {notebook!r}.")
    return NOTEBOOKS[notebook](profile)


def experiments(notebook: str, profile: Profile) -> tuple[Experiment, ...]:
    """Return the same in one row, each once."""
    every = trainings(notebook, profile).values()
    return tuple(dict.fromkeys(one for group in every for one in group.values()))


NOTEBOOKS: dict[str, Callable[[Profile], dict[str, Group]]] = {
    "00_quickstart": quickstart.networks,
    "01_symmetries": symmetries.networks,
    "02_line_and_barrier": line_and_barrier.networks,
    "03_weight_matching": weight_matching.networks,
    "04_three_methods": three_methods.networks,
    "05_counterexample": counterexample.networks,
    "06_onset": onset.networks,
    "07_width": width.networks,
    "08_failures": failures.networks,
    "09_normalisation": normalisation.networks,
    "10_split_data": split_data.networks,
    "11_merging_many": merging_many.networks,
}
