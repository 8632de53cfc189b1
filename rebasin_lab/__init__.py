"""Git Re-Basin: match, interpolate and merge networks modulo permutation.

    import rebasin_lab as rl

Three wings; imports go library <- paper <- lab. The library takes networks and gives permutations
and merged networks: `pytrees`, `datasets`, `models`, `metrics`, `training`, `symmetry`, `layers`,
`matching`, `merging`, `analysis`, `interop`. `paper` is the reproduction: `settings`, `networks`,
`foreign_pair`, `profiles`, `fingerprints`, `store`, `train_many`, `imagenet`, `cache`,
`counterexample`, `claim`, `sections`, `claims`.
`lab` is the tools around notebooks: `background_errors`, `plots`, `figures`, `scenes`,
`figure_export`, `session`, `exploration`, `component`, `widgets`, `preloading`, `jupyter`,
`execution`, `editions`, `report`, `runner`, `class_kit`, `site`, `gpu_measurements`, `gpu_check`.
Each wing is in reading order. `texts`, `strict_json`, `paths`, `checks`, `progress` and `processes`
import nothing else; `commands` are those of the library, and `cli` is the command.
"""

import importlib
import warnings
from typing import Any

from rebasin_lab import processes

if processes.is_own_program():  # what it loads next takes seconds, and leaves nothing to tidy up
    processes.end_at_signals()

# The public face. A name is loaded from its module on first use: a program waits only for what it
# uses, and the names of the lab need the extra [lab].
_NAMES_OF_MODULES = {
    # library
    "analysis.calibration": ["calibration_summary", "reliability_curve"],
    "analysis.comparison": ["Comparison", "compare_matchers", "comparison_table"],
    "analysis.interpolation": [
        "InterpolationCurve",
        "LossContour",
        "interpolation_curve",
        "loss_barrier",
        "loss_contour",
    ],
    "datasets": [
        "Dataset",
        "label_biased_split",
        "load_dataset",
        "random_halves",
        "stratified_parts",
    ],
    "interop": ["from_torch"],
    "matching": ["MATCHERS", "Matcher", "MatchingResult", "match"],
    "merging": ["MergeResult", "average", "ensemble", "merge_many"],
    "metrics": ["evaluate"],
    "models": ["Model", "build_model"],
    "pytrees": ["distance", "lerp"],
    "symmetry": [
        "PermutationSpec",
        "apply_permutation",
        "compose_permutations",
        "identity_permutation",
        "infer_permutation_spec",
        "invert_permutation",
        "log10_num_symmetries",
        "mlp_permutation_spec",
        "random_permutation",
        "verify_equivalence",
    ],
    "training": ["TrainConfig", "TrainingResult", "train"],
    # paper
    "paper.cache": ["cached"],
    "paper.networks": ["Experiment"],
    "paper.profiles": ["Profile", "get_profile"],
    "paper.store": ["trained"],
    "paper.train_many": ["train_all"],
    # lab
    "lab.session": ["open_run"],
    "lab.widgets": ["dials", "explore", "picture"],
}
_MODULES = {name: module for module, names in _NAMES_OF_MODULES.items() for name in names}
_FOLDERS = {module.partition(".")[0] for module in _NAMES_OF_MODULES}  # rl.merging, too
# Modules that had a place of their own here; for one release these names still find them.
_MOVED = {
    "augmentation": "training.augmentation",
    "calibration": "analysis.calibration",
    "checkpoints": "training.checkpoints",
    "claims": "paper.claims",
    "collapse": "analysis.variance_collapse",
    "comparison": "analysis.comparison",
    "counterexample": "paper.counterexample",
    "evaluation": "metrics",
    "execution": "lab.execution",
    "figure_export": "lab.figure_export",
    "figures": "lab.figures",
    "interpolation": "analysis.interpolation",
    "plots": "lab.plots",
    "records": "paper.cache",
    "runner": "lab.runner",
    "runs": "lab.session",
    "sweeps": "paper.train_many",
    "widgets": "lab.widgets",
}
_RENAMED = {"remembered": "cached"}  # likewise

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return importlib.import_module(f"rebasin_lab.{name}")
    if name in _MOVED:
        place = f"rebasin_lab.{_MOVED[name]}"
        warnings.warn(f"rebasin_lab.{name} is now {place}.", DeprecationWarning, stacklevel=2)
        return importlib.import_module(place)
    if name in _RENAMED:
        warnings.warn(f"rl.{name} is now rl.{_RENAMED[name]}.", DeprecationWarning, stacklevel=2)
        return __getattr__(_RENAMED[name])
    if name not in _MODULES:
        raise AttributeError(f"module 'rebasin_lab' has no attribute {name!r}")
    module = _MODULES[name]
    try:
        return getattr(importlib.import_module(f"rebasin_lab.{module}"), name)
    except ModuleNotFoundError as error:
        if not module.startswith("lab."):
            raise
        raise ModuleNotFoundError(
            f"rl.{name} is for notebooks and needs the package {error.name}: "
            "install the extra [lab] (in the checkout: pip install --editable '.[lab]')."
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_FOLDERS})
