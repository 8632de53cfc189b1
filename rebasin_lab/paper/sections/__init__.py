"""Sections of the paper: one module each, for the notebook of its `NAME`.

A module lists the networks it needs (`networks`), measures by functions that take a `Study` and
return a `Record`, and holds the section's claims (`CLAIMS`) and exercise (`EXERCISE`). Its notebook
calls it, a dry run asks it, tests run it at tiny sizes without Jupyter. `study` is what sections
measure with, `record` what they return, `quantities` its numbers in words, `groups` kinds of
networks, `pair_lines` the lines between pairs of them in several orders, `answers` what networks
say of images, `exercise` a reader's task. A long section has further modules, such as
`random_halves`.
"""

from types import ModuleType

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
    own_networks,
    quickstart,
    split_data,
    symmetries,
    three_methods,
    weight_matching,
    width,
)
from rebasin_lab.paper.sections.groups import Group

# In the order of the notebooks.
SECTIONS: dict[str, ModuleType] = {
    module.NAME: module
    for module in (
        quickstart,
        symmetries,
        line_and_barrier,
        weight_matching,
        three_methods,
        counterexample,
        onset,
        width,
        failures,
        normalisation,
        split_data,
        merging_many,
        own_networks,
    )
}

__all__ = ["SECTIONS", "experiments", "trainings"]


@checks.arguments
def trainings(notebook: str, profile: Profile) -> dict[str, Group]:
    """Return the networks that a section trains, by group and key.

    Args:
        notebook: its name.
        profile: the sizes of the run, single settings included.

    Returns:
        Groups in the order in which they are trained; one is empty where the profile has none.

    Raises:
        ValueError: for a name that no section has.
    """
    if notebook not in SECTIONS:
        raise ValueError(f"Expected a notebook among {list(SECTIONS)}; got {notebook!r}.")
    return SECTIONS[notebook].networks(profile)


def experiments(notebook: str, profile: Profile) -> tuple[Experiment, ...]:
    """Return the same in one row, each once."""
    every = trainings(notebook, profile).values()
    return tuple(dict.fromkeys(one for group in every for one in group.values()))
