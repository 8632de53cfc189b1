"""Sections of the paper: one module each, for the notebook of its `NAME`.

A module lists the networks it needs (`networks`), measures by functions that take a `Study` and
return a `Record`, and holds the section's claims (`CLAIMS`) and exercise (`EXERCISE`). Its notebook
calls it, a dry run asks it, tests run it at tiny sizes without Jupyter. `study` is what sections
measure with, `record` what they return, `groups` kinds of networks, `answers` what networks say of
images, `exercise` a reader's task. A long section has further modules, such as `random_halves`.
"""

from types import ModuleType

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
    )
}

__all__ = ["SECTIONS"]
