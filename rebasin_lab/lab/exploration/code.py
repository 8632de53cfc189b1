"""An exploration as a program: the calls of the library that compute the same."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rebasin_lab import datasets, matching
from rebasin_lab.lab.exploration.choices import Choices
from rebasin_lab.paper.networks import Experiment

# For networks that were passed in, no code is known.
GIVEN = """\
import rebasin_lab as rl

# params_a, params_b, apply_fn and data are your own."""

_SEEDS = """\
import rebasin_lab as rl
{imports}
train = rl.TrainConfig({train})
experiments = [
    rl.Experiment(
        dataset={dataset!r},
        seed=seed,
        train=train,
        architecture={architecture!r},
        options={options!r},{view}
    )
    for seed in {seeds!r}
]
data = experiments[0].load_dataset()
model = experiments[0].build_model(data)
apply_fn = model.apply
params_a, params_b = (network.params for network in rl.train_all(experiments))"""

_FILES = """\
from pathlib import Path

import rebasin_lab as rl
from rebasin_lab import datasets
from rebasin_lab.training import checkpoints

data = datasets.load_view({dataset!r}, {view})
model = rl.build_model({architecture!r}, dataset=data, **{options!r})
apply_fn = model.apply
files = {files!r}
params_a, params_b = (checkpoints.load(Path(file), like=model.shapes)[0] for file in files)"""

_RE_ESTIMATE = """\
from rebasin_lab import merging


def prepare(params):
    images = data.train_images[:{num_images}]
    return merging.reestimate_statistics({model}, params, images)


"""

_THE_REST = """\
{statistics}spec = rl.infer_permutation_spec(apply_fn, params_a, data.test_images[:1])
compared = rl.compare_matchers(
    spec,
    params_a,
    params_b,
    apply_fn=apply_fn,
    data=data,
    methods={methods!r},
    num_lambdas={num_lambdas},{prepare}
)
print(rl.comparison_table([compared]))

lam = {lam!r}
aligned = rl.apply_permutation(spec, compared[{method!r}].permutation, params_b)
merged = {merged}
print(rl.evaluate(apply_fn, merged, data.test_images, data.test_labels))
"""


def code_of(
    choices: Choices,
    data: datasets.Dataset,
    networks: str,
    *,
    method: str,
    lam: float,
    num_images: int,
) -> str:
    """Return a program that compares the matchers, and evaluates one merged network.

    Args:
        choices: of the exploration.
        data: that matchers look at.
        networks: lines that define `params_a`, `params_b`, `apply_fn` and `data`.
        method: the matcher to merge by, or "naive".
        lam: where on the line.
        num_images: that statistics are re-estimated on, where that was chosen.
    """
    methods = {name: choices.options_of(name, data) for name in ("naive", *choices.matchers)}
    own = "".join(
        f"# rl.MATCHERS[{name!r}] is your own: register it first.\n"
        for name in choices.matchers
        if matching.MATCHERS.is_own(name)
    )
    statistics, prepare, merged = "", "", "rl.lerp(lam, params_a, aligned)"
    if choices.statistics == "re-estimated":
        model = "apply_fn" if networks == GIVEN else "model"
        statistics = _RE_ESTIMATE.format(num_images=num_images, model=model)
        prepare, merged = "\n    prepare=prepare,", f"prepare({merged})"
    rest = _THE_REST.format(
        statistics=statistics,
        methods=methods,
        num_lambdas=choices.num_lambdas,
        prepare=prepare,
        lam=lam,
        method=method,
        merged=merged,
    )
    return f"{networks}\n{own}{rest}"


def networks_of_seeds(one: Experiment, seeds: Sequence[int]) -> str:
    """Return the lines that train two networks, or restore them."""
    view = _view(one.view)
    return _SEEDS.format(
        imports="from rebasin_lab import datasets\n" if view else "",
        train=", ".join(f"{name}={value!r}" for name, value in _changed(one.train).items()),
        dataset=one.dataset,
        architecture=one.architecture,
        options=one.options,
        view=f"\n        view={view}," if view else "",
        seeds=tuple(seeds),
    )


def networks_of_files(files: Sequence[str], config: dict[str, Any], view: datasets.View) -> str:
    """Return the lines that read two checkpoints, whose metadata hold `config`."""
    return _FILES.format(
        dataset=config["dataset"],
        view=_view(view) or "datasets.View()",
        architecture=config["architecture"],
        options=config["options"],
        files=tuple(files),
    )


def _view(view: datasets.View) -> str:
    """Return a call that makes it; empty for the data set as it is."""
    fields = ", ".join(f"{name}={value!r}" for name, value in _changed(view).items())
    return f"datasets.View({fields})" if fields else ""


def _changed(record: Any) -> dict[str, Any]:
    """Return those fields of a dataclass that are not its defaults."""
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {
        field.name: values[field.name]
        for field in dataclasses.fields(record)
        if values[field.name] != field.default
    }
