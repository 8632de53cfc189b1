"""Git Re-Basin as something to hold: match, interpolate and merge networks modulo permutation.

    import rebasin_lab as rl

Three wings; imports go library <- paper <- lab. The library takes networks and gives permutations
and merged networks: `pytrees`, `datasets`, `models`, `metrics`, `training`, `symmetry`, `matching`,
`merging`, `analysis`. `paper` is the reproduction: `fingerprints`, `networks`, `profiles`,
`families`, `trainings`, `store`, `train_many`, `imagenet`, `cache`, `counterexample`, `claims`.
`lab` is the tools around notebooks: `background_errors`, `plots`, `figures`, `figure_export`,
`session`, `exploration`, `widgets`, `jupyter`, `execution`, `report`, `runner`, `gpu_check`. Each
wing is in reading order. `texts`, `strict_json`, `paths`, `checks`, `progress` and `processes`
import nothing else; `cli` is the command.
"""

from typing import Any

from rebasin_lab import processes

if processes.is_own_program():  # what follows takes seconds, and leaves nothing to tidy up
    processes.end_at_signals()

# isort: split

from rebasin_lab.analysis.calibration import calibration_summary, reliability_curve
from rebasin_lab.analysis.comparison import Comparison, compare_matchers, comparison_table
from rebasin_lab.analysis.interpolation import (
    InterpolationCurve,
    LossContour,
    interpolation_curve,
    loss_barrier,
    loss_contour,
)
from rebasin_lab.datasets import (
    Dataset,
    label_biased_split,
    load_dataset,
    random_halves,
    stratified_parts,
)
from rebasin_lab.matching import MATCHERS, MatchingResult, match
from rebasin_lab.merging import MergeResult, average, ensemble, merge_many
from rebasin_lab.metrics import evaluate
from rebasin_lab.models import Model, build_model
from rebasin_lab.paper.cache import remembered
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.paper.profiles import Profile, get_profile
from rebasin_lab.paper.store import trained
from rebasin_lab.paper.train_many import train_all
from rebasin_lab.pytrees import distance, lerp
from rebasin_lab.symmetry import (
    PermutationSpec,
    apply_permutation,
    compose_permutations,
    identity_permutation,
    infer_permutation_spec,
    invert_permutation,
    log10_num_symmetries,
    mlp_permutation_spec,
    random_permutation,
    verify_equivalence,
)
from rebasin_lab.training import TrainConfig, TrainingResult, train

# Only notebooks need these, and they need the extra [lab]: loaded on first use.
_LAB_NAMES = {"open_run": "session", "dials": "widgets", "explore": "widgets", "picture": "widgets"}

__all__ = [
    "MATCHERS",
    "Comparison",
    "Dataset",
    "Experiment",
    "InterpolationCurve",
    "LossContour",
    "MatchingResult",
    "MergeResult",
    "Model",
    "PermutationSpec",
    "Profile",
    "TrainConfig",
    "TrainingResult",
    "apply_permutation",
    "average",
    "build_model",
    "calibration_summary",
    "compare_matchers",
    "comparison_table",
    "compose_permutations",
    "dials",
    "distance",
    "ensemble",
    "evaluate",
    "explore",
    "get_profile",
    "identity_permutation",
    "infer_permutation_spec",
    "interpolation_curve",
    "invert_permutation",
    "label_biased_split",
    "lerp",
    "load_dataset",
    "log10_num_symmetries",
    "loss_barrier",
    "loss_contour",
    "match",
    "merge_many",
    "mlp_permutation_spec",
    "open_run",
    "picture",
    "random_halves",
    "random_permutation",
    "reliability_curve",
    "remembered",
    "stratified_parts",
    "train",
    "train_all",
    "trained",
    "verify_equivalence",
]


def __getattr__(name: str) -> Any:
    if name not in _LAB_NAMES:
        raise AttributeError(f"module 'rebasin_lab' has no attribute {name!r}")
    import importlib

    try:
        module = importlib.import_module(f"rebasin_lab.lab.{_LAB_NAMES[name]}")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"rl.{name} is for notebooks and needs the package {error.name}: "
            "install the extra [lab] (in the checkout: pip install --editable '.[lab]')."
        ) from error
    return getattr(module, name)
