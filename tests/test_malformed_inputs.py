"""Malformed input at every entry: one paragraph of ours says what was expected, came, and where.

`ROWS` has an entry for everything a user calls, and in it one row a mistake: what is wrong, the
call, and the patterns that the error must hold, with " & " between them. A call runs in an empty
folder. Commands are rows of `COMMANDS`, run in this process.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import re
import signal
import traceback
from pathlib import Path

import ipywidgets
import jax
import numpy as np
import pytest
from click.testing import CliRunner

import rebasin_lab as rl
from rebasin_lab import cli, datasets, matching, merging, paths, progress, pytrees, symmetry
from rebasin_lab.analysis import variance_collapse
from rebasin_lab.lab import exploration, figure_export, figures, gpu_check, runner
from rebasin_lab.paper import claims, counterexample, sections, store, train_many
from rebasin_lab.paper.sections import record
from rebasin_lab.training import checkpoints

SECONDS = 20  # of a row; most take a hundredth of one
NAN, INF, HUGE = float("nan"), float("inf"), 10**30

SPEC = rl.mlp_permutation_spec(2)
OTHER_SPEC = rl.mlp_permutation_spec(3)  # of another network
WIDTHS = (16, 6, 6, 3)


def draw(seed, widths=WIDTHS):
    rng = np.random.default_rng(seed)
    return {
        "layers": {
            i: {
                "kernel": rng.standard_normal(shape).astype(np.float32),
                "bias": rng.standard_normal(shape[1]).astype(np.float32),
            }
            for i, shape in enumerate(itertools.pairwise(widths))
        }
    }


def apply_fn(params, images):
    x = images.reshape(len(images), -1)
    *hidden, last = (params["layers"][i] for i in range(3))
    for layer in hidden:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None])
    return x @ last["kernel"] + last["bias"][None]


def draw_data():
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(45, 4, 4, 1)).astype(np.float32)
    labels = np.tile(np.arange(3, dtype=np.int32), 15)
    return dict(
        name="three",
        title="Three",
        train_images=images[:30],
        train_labels=labels[:30],
        test_images=images[30:],
        test_labels=labels[30:],
        num_classes=3,
        class_names=("a", "b", "c"),
        digest="three",
        source="tests",
    )


A, B, C = draw(0), draw(1), draw(2)
WIDER = draw(1, (16, 7, 6, 3))
DEEPER = draw(1, (16, 6, 6, 4, 3))
WRAPPED = {"params": B}
WITH_NAN = {"layers": {**B["layers"], 1: {**B["layers"][1], "bias": np.full(6, np.nan, "f4")}}}
INTEGERS = jax.tree.map(lambda leaf: leaf.astype(np.int32), B)
TEXTS = {"layers": {**B["layers"], 1: {**B["layers"][1], "bias": "zeros"}}}
FIELDS = draw_data()
DATA = rl.Dataset(**FIELDS)
IMAGES, LABELS = DATA.test_images, DATA.test_labels
PERM = rl.random_permutation(SPEC, A, seed=0)
MODEL = rl.build_model("mlp", dataset=DATA, width=6, num_hidden_layers=2)
CONFIG = rl.TrainConfig(batch_size=10, num_epochs=1)
CLAIM = next(iter(claims.CLAIMS))
FIGURE = next(iter(paths.figures_dir().glob("*/*.json")))
LINE = np.linspace(0, 1, 3)
CURVE = rl.InterpolationCurve(LINE, LINE, LINE, LINE, LINE)
EXPERIMENT = rl.Experiment(dataset="mnist5k", seed=0, train=CONFIG)


def no_classes(params, images):
    return images.mean()


def two_outputs(params, images):
    return apply_fn(params, images), images


def broken(params, images):
    return images @ params["nothing"]


class Unhashable:
    __hash__ = None
    __call__ = staticmethod(apply_fn)


def with_data(**fields):
    return rl.Dataset(**(FIELDS | fields))


def curve_with(**fields):
    return dataclasses.replace(CURVE, **fields)


def choice(**fields):
    return exploration.Choices(**fields)


def match(method="weight", spec=SPEC, a=A, b=B, **options):
    if any(method == name and matcher.needs_data for name, matcher in rl.MATCHERS.items()):
        options = {"apply_fn": apply_fn, "data": DATA, **options}
    return rl.match(method, spec, a, b, **options)


def in_environment(call, **variables):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return call()


def written(text, name="file"):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def stored(tree=None, metadata=None):
    path = Path("net.safetensors")
    checkpoints.save(path, A if tree is None else tree, {} if metadata is None else metadata)
    return path


def open_run(notebook="00_quickstart", **options):
    return rl.open_run(notebook, **({"interactive": False, "trial": True} | options))


def save_figure(name="f", plot="interpolation", numbers=None, **options):
    provenance = figures.Provenance("00_quickstart", "quick", {}, (), {}, (), ())
    given = {"caption": "c", "alt": "a", "provenance": provenance} | options
    return figures.save_figure(
        Path("figures"), name, plot=plot, numbers={} if numbers is None else numbers, **given
    )


def explore(**options):
    return rl.explore(**({"interactive": False} | options))


def walk_line(model=MODEL, spec=SPEC, a=A, b=B, data=DATA, **options):
    return variance_collapse.walk_line(model, spec, a, b, data, **({"images": IMAGES} | options))


def contour(a=A, b=B, c=C, images=IMAGES, labels=LABELS, **options):
    return rl.loss_contour(apply_fn, a, b, c, images, labels, **({"resolution": 2} | options))


def curve(a=A, b=B, data=DATA, *, fn=apply_fn, **options):
    return rl.interpolation_curve(fn, a, b, data, **({"num_lambdas": 2} | options))


def compare(a=A, b=B, spec=SPEC, **options):
    defaults = {"apply_fn": apply_fn, "data": DATA, "methods": ("naive", "weight")}
    return rl.compare_matchers(spec, a, b, **(defaults | {"num_lambdas": 2} | options))


def from_json(**changes):
    content = json.loads(rl.PermutationSpec({"w": ("P",)}).to_json()) | changes
    content = {key: value for key, value in content.items() if value is not ...}
    return rl.PermutationSpec.from_json(json.dumps(content))


def with_text(old, new):
    return rl.PermutationSpec.from_json(
        rl.PermutationSpec({"w": ("P",)}).to_json().replace(old, new)
    )


def spec_of(*rest, **options):
    return rl.PermutationSpec({"w": ("P",)}, *rest, **options)


def infer(params=A, images=IMAGES, **options):
    return rl.infer_permutation_spec(apply_fn, params, images, **options)


def verify(spec=SPEC, params=A, images=IMAGES, **options):
    return rl.verify_equivalence(apply_fn, spec, params, images, **options)


def apply(**orders):
    return rl.apply_permutation(SPEC, PERM | orders, A)


def merge(**options):
    return rl.merge_many(SPEC, [A, B, C], **options)


def calibration(fn=apply_fn, params=A, labels=LABELS, **options):
    return rl.calibration_summary(fn, params, IMAGES, labels, **options)


def reliability(**options):
    return rl.reliability_curve(np.zeros((3, 3), "f4"), LABELS[:3], **options)


def build(architecture, **options):
    return rl.build_model(architecture, dataset=DATA, **options)


def load_mnist(**options):
    return rl.load_dataset("mnist", download=False, **options)


def evaluate(fn=apply_fn, images=IMAGES, labels=LABELS, **options):
    return rl.evaluate(fn, A, images, labels, **options)


def train(model=MODEL, data=DATA, config=CONFIG, seed=0, **options):
    return rl.train(model, data, config, seed=seed, **options)


def experiment_with(**fields):
    return dataclasses.replace(EXPERIMENT, **fields)


def profile_with(**fields):
    return dataclasses.replace(rl.get_profile("quick"), **fields)


def run_in(folder):
    return in_environment(open_run, REBASIN_RUNS=folder)


def data_in(folder):
    return in_environment(load_mnist, REBASIN_DATA=folder)


@functools.cache
def normed():
    model = rl.build_model("resnet8_bn", dataset=DATA, width_multiplier=1 / 16)
    return model, jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), model.shapes)


def reestimate(params=None, images=IMAGES, **options):
    model, own = normed()
    return merging.reestimate_statistics(model, params or own, images, **options)


def run():
    return open_run()


def figure(name="f", **options):
    given = {"plot": "interpolation", "numbers": LINES, "title": "T"} | options
    drawn = record.Figure(name=name, caption="c", alt="a", **given)

    class OneFigure(record.Record):
        def figures(self):
            return [drawn]

    return run().show(OneFigure())


LINES = {"curves": {"naive": [CURVE.as_numbers()]}}


def picture(plot="interpolation", numbers=None, **options):
    numbers = LINES if numbers is None else numbers
    return rl.picture(plot, numbers, **({"alt": "a"} | options))


def dial(draw=lambda lam: picture(), **controls):
    return rl.dials(draw, interactive=False, **controls)


def folder_of_figures():
    written("{}", "figures/00_quickstart/f.json")
    return Path("figures")


def export(chosen=(FIGURE,), **options):
    return figure_export.export_figures(list(chosen), Path("out"), **options)


def trace(spec=SPEC, params=A, **options):
    return symmetry.trace_activations(apply_fn, spec, params, IMAGES, **options)


def explore_own(**options):
    return explore(**({"params": (A, B), "apply_fn": apply_fn, "data": DATA} | options))


@functools.cache
def found():
    pair = exploration.Pair("own", DATA, apply_fn, A, B)
    return exploration.explore_pair(choice(num_lambdas=2), pair=pair)


def tables(*methods):
    return [compare(methods=(method,)) for method in methods]


ROWS = {
    "rl.PermutationSpec": [
        ("a list of paths", lambda: rl.PermutationSpec(["w", "v"]), r"axes & \['w', 'v'\]"),
        ("None", lambda: rl.PermutationSpec(None), "axes & None"),
        ("a text for axes", lambda: rl.PermutationSpec({"w": "P_0"}), "'w' & P_0"),
        ("no tuple for a leaf", lambda: rl.PermutationSpec({"w": None}), "'w' & None"),
        ("a number for a name", lambda: rl.PermutationSpec({"w": (1.5, "P")}), "'w' & 1.5"),
        ("bytes for a name", lambda: rl.PermutationSpec({"w": (b"P",)}), "'w' & b'P'"),
        ("an empty name", lambda: rl.PermutationSpec({"w": ("",)}), "'w' & ''"),
        ("half an expression", lambda: rl.PermutationSpec({"w": ("P +",)}), r"'w' & P \+"),
        ("an open bracket", lambda: rl.PermutationSpec({"w": ("d[h",)}), r"'w' & d\[h"),
        ("a path that is a number", lambda: rl.PermutationSpec({3: ("P",)}), "key of axes & 3"),
        ("a parent that is nowhere", lambda: rl.PermutationSpec({"w": ("d[h]",)}), "'w' & h"),
        ("a size of no group", lambda: spec_of({"Q": 3}), "group_sizes|Q & Q"),
        ("a size of text", lambda: spec_of({"P": "3"}), "P & '3'"),
        ("a negative size", lambda: spec_of({"P": -3}), "P & -3"),
        ("a size of NaN", lambda: spec_of({"P": NAN}), "P & nan"),
        ("True for a size", lambda: spec_of({"P": True}), "P & True"),
        ("sizes as a list", lambda: spec_of([3]), "group_sizes & 3"),
        ("an explanation of no leaf", lambda: spec_of({}, {"v": ("x",)}), "v"),
        ("a text for explanations", lambda: spec_of({}, {"w": "x"}), "w & x"),
        ("explanations as a list", lambda: spec_of({}, ["x"]), "explanations & list|x"),
        ("one assumption", lambda: spec_of(assumptions="no ties"), "assumptions & no ties|str"),
        ("a number among assumptions", lambda: spec_of(assumptions=(3,)), "assumption & 3"),
        ("two networks' leaves", lambda: SPEC.validate(DEEPER), "layers/3 & missing|none"),
        ("a wider layer", lambda: SPEC.validate(WIDER | {"x": 1.0}), "'x' & float"),
        ("nothing to validate", lambda: SPEC.validate(None), "layers/0 & None|none"),
        ("no spec", lambda: SPEC.same_as({"w": ("P",)}), "other & 'w' & PermutationSpec"),
        ("a leaf it has not", lambda: SPEC.explain("layers/9/kernel", 0), "layers/9/kernel"),
        ("an axis out of range", lambda: SPEC.explain("layers/0/kernel", 7), "axis|axes & 7"),
        ("a text for an axis", lambda: SPEC.explain("layers/0/kernel", "0"), "axis & '0'"),
    ],
    "rl.PermutationSpec.from_json": [
        ("no JSON", lambda: rl.PermutationSpec.from_json("{"), "JSON"),
        ("nothing", lambda: rl.PermutationSpec.from_json(""), "JSON & empty|''|nothing"),
        ("a path", lambda: rl.PermutationSpec.from_json("spec.json"), "JSON & spec.json"),
        ("a Path", lambda: rl.PermutationSpec.from_json(Path("spec.json")), "text & Path"),
        ("None", lambda: rl.PermutationSpec.from_json(None), "text & None"),
        ("parsed already", lambda: rl.PermutationSpec.from_json({"axes": {}}), "text & dict"),
        ("a list", lambda: rl.PermutationSpec.from_json("[]"), r"object & list|\[\]"),
        ("another format", lambda: rl.PermutationSpec.from_json('{"format": "x"}'), "format & x"),
        ("a later version", lambda: from_json(version=99), "version & 99"),
        ("a version of text", lambda: from_json(version="1"), "version & '1'"),
        ("axes as a list", lambda: from_json(axes=["w"]), "axes & list|w"),
        ("axes missing", lambda: from_json(axes=...), "axes"),
        ("a number for a name", lambda: from_json(axes={"w": [1.5]}), "w & 1.5"),
        ("a text for a leaf", lambda: from_json(axes={"w": "P"}), "w & P"),
        ("sizes of text", lambda: from_json(group_sizes={"P": "3"}), "P & 3"),
        ("a field that is none", lambda: from_json(sizes={}), "sizes & group_sizes"),
        ("far too deep", lambda: rl.PermutationSpec.from_json("[" * 100_000), "JSON|deep"),
        ("a key twice", lambda: with_text('"w": [', '"w": [null], "w": ['), "'w'|\"w\" & twice"),
        (
            "a number of 10,000 digits",
            lambda: with_text('"version": 1', '"version": ' + "9" * 10_000),
            "64 bits",
        ),
    ],
    "rl.mlp_permutation_spec": [
        ("a negative number", lambda: rl.mlp_permutation_spec(-1), "num_hidden_layers & -1"),
        ("a float", lambda: rl.mlp_permutation_spec(2.0), "num_hidden_layers & 2.0"),
        ("a text", lambda: rl.mlp_permutation_spec("2"), "num_hidden_layers & '2'"),
        ("a list of widths", lambda: rl.mlp_permutation_spec([64]), "num_hidden_layers & 64"),
        ("a bool", lambda: rl.mlp_permutation_spec(True), "num_hidden_layers & True"),
        ("far too many", lambda: rl.mlp_permutation_spec(HUGE), "num_hidden_layers & 000"),
    ],
    "rl.infer_permutation_spec": [
        ("no function", lambda: rl.infer_permutation_spec(None, A, IMAGES), "apply_fn & None"),
        ("a model", lambda: rl.infer_permutation_spec(MODEL, A, IMAGES), "apply_fn & Model"),
        ("swapped", lambda: rl.infer_permutation_spec(A, apply_fn, IMAGES), "apply_fn & dict"),
        ("no input", lambda: rl.infer_permutation_spec(apply_fn, A), "input & apply_fn|images"),
        ("no parameters", lambda: infer(params=None), "param"),
        ("empty", lambda: infer(params={}), "param"),
        ("wrapped", lambda: infer(params=WRAPPED), "layers"),
        ("a text for images", lambda: infer(images="x"), "input & x|str"),
        ("a wrong shape of images", lambda: infer(images=IMAGES[:, :3]), "apply_fn|input & 12|3"),
        ("a broken function", lambda: rl.infer_permutation_spec(broken, A, IMAGES), "nothing"),
        ("a text leaf", lambda: infer(params=TEXTS), "layers/1/bias"),
        ("assume_no_ties as text", lambda: infer(assume_no_ties="no"), "assume_no_ties & no"),
    ],
    "rl.verify_equivalence": [
        ("no spec", lambda: verify(spec=None), "spec & None"),
        ("swapped", lambda: rl.verify_equivalence(SPEC, apply_fn, A, IMAGES), "apply_fn & Spec"),
        ("another spec", lambda: verify(spec=OTHER_SPEC), "layers/3"),
        ("no trials", lambda: verify(num_trials=0), "num_trials & 0"),
        ("half a trial", lambda: verify(num_trials=1.5), "num_trials & 1.5"),
        ("a seed of text", lambda: verify(seed="0"), "seed & '0'"),
        ("a negative seed", lambda: verify(seed=-1), "seed & -1"),
        ("no input", lambda: rl.verify_equivalence(apply_fn, SPEC, A), "input"),
        ("no parameters", lambda: verify(params=None), "layers|param"),
        ("wrapped", lambda: verify(params=WRAPPED), "params/layers"),
        ("another shape", lambda: verify(images=IMAGES[:, :2]), "8|2"),
    ],
    "rl.log10_num_symmetries": [
        ("swapped", lambda: rl.log10_num_symmetries(A, SPEC), "spec & dict"),
        ("no parameters", lambda: rl.log10_num_symmetries(SPEC, None), "layers"),
        ("another spec", lambda: rl.log10_num_symmetries(OTHER_SPEC, A), "layers/3"),
        ("wrapped", lambda: rl.log10_num_symmetries(SPEC, WRAPPED), "params/layers"),
        ("a text", lambda: rl.log10_num_symmetries("spec", A), "spec & str|'spec'"),
    ],
    "rl.random_permutation": [
        ("swapped", lambda: rl.random_permutation(A, SPEC, seed=0), "spec & dict"),
        ("another spec", lambda: rl.random_permutation(OTHER_SPEC, A, seed=0), "layers/3"),
        ("wrapped", lambda: rl.random_permutation(SPEC, WRAPPED, seed=0), "params/layers"),
        ("key", lambda: rl.random_permutation(SPEC, A, seed=jax.random.key(0)), "seed & key|Array"),
        ("a float seed", lambda: rl.random_permutation(SPEC, A, seed=0.5), "seed & 0.5"),
        ("a negative seed", lambda: rl.random_permutation(SPEC, A, seed=-1), "seed & -1"),
        ("no seed", lambda: rl.random_permutation(SPEC, A, seed=None), "seed & None"),
        ("a bool", lambda: rl.random_permutation(SPEC, A, seed=True), "seed & True"),
        ("a list", lambda: rl.random_permutation(SPEC, A, seed=[1, 2]), r"seed & \[1, 2\]"),
    ],
    "rl.identity_permutation": [
        ("swapped", lambda: rl.identity_permutation(A, SPEC), "spec & dict"),
        ("None", lambda: rl.identity_permutation(SPEC, None), "layers"),
        ("another spec", lambda: rl.identity_permutation(OTHER_SPEC, A), "layers/3"),
    ],
    "rl.apply_permutation": [
        ("swapped", lambda: rl.apply_permutation(PERM, SPEC, A), "spec & dict"),
        ("two swapped", lambda: rl.apply_permutation(SPEC, A, PERM), "permutation|layers"),
        ("None", lambda: rl.apply_permutation(SPEC, None, A), "permutation & None"),
        (
            "a list",
            lambda: rl.apply_permutation(SPEC, list(PERM.values()), A),
            "permutation & list",
        ),
        ("nothing", lambda: rl.apply_permutation(SPEC, {}, A), "P_0"),
        ("a name too many", lambda: apply(P_9=np.arange(3)), "P_9"),
        ("a unit twice", lambda: apply(P_0=[0, 0, 1, 2, 3, 4]), "P_0 & permutation|once"),
        ("a wrong length", lambda: apply(P_0=np.arange(4)), "P_0 & 5 & 4"),
        ("out of range", lambda: apply(P_0=[0, 1, 2, 3, 4, 9]), "P_0 & 9|6"),
        ("negative", lambda: apply(P_0=[0, 1, 2, 3, 4, -1]), "P_0 & -1|6"),
        ("floats", lambda: apply(P_0=np.arange(6.0)), "P_0 & float"),
        ("NaN", lambda: apply(P_0=np.full(6, np.nan)), "P_0 & nan|float"),
        ("a matrix", lambda: apply(P_0=np.eye(6, dtype=int)), "P_0 & 6, 6"),
        ("text", lambda: apply(P_0="012345"), "P_0 & str|012345"),
        ("None for one", lambda: apply(P_0=None), "P_0 & None"),
        ("bools", lambda: apply(P_0=np.ones(6, bool)), "P_0 & bool"),
        ("another network", lambda: rl.apply_permutation(SPEC, PERM, DEEPER), "layers/3"),
        ("another width", lambda: rl.apply_permutation(SPEC, PERM, WIDER), "P_0 & 6"),
        ("wrapped", lambda: rl.apply_permutation(SPEC, PERM, WRAPPED), "params/layers"),
        ("a result for it", lambda: rl.apply_permutation(SPEC, match(), A), "permutation & Result"),
    ],
    "rl.invert_permutation": [
        ("None", lambda: rl.invert_permutation(None), "permutation & None"),
        ("one array", lambda: rl.invert_permutation(np.arange(3)), "permutation & array"),
        ("a unit twice", lambda: rl.invert_permutation({"P": [0, 0]}), "P & permutation|once"),
        ("floats", lambda: rl.invert_permutation({"P": [0.0, 1.0]}), r"P & \[0.0, 1.0\]"),
        ("ragged", lambda: rl.invert_permutation({"P": [[0], [0, 1]]}), "P"),
        ("text", lambda: rl.invert_permutation({"P": "01"}), "P & 01|str"),
        ("a scalar", lambda: rl.invert_permutation({"P": 0}), "P & 0"),
        ("generator", lambda: rl.invert_permutation({"P": (i for i in range(3))}), "P & generator"),
    ],
    "rl.compose_permutations": [
        ("None", lambda: rl.compose_permutations(PERM, None), "first|permutation & None"),
        ("other names", lambda: rl.compose_permutations({"P": [0]}, {"Q": [0]}), "P|Q"),
        ("other sizes", lambda: rl.compose_permutations({"P": [0]}, {"P": [0, 1]}), "P & 2|1"),
        ("a unit twice", lambda: rl.compose_permutations({"P": [0, 0]}, {"P": [0, 1]}), "P"),
        ("a list", lambda: rl.compose_permutations([PERM], PERM), "second|permutation & list"),
    ],
    "rl.match": [
        ("a near miss", lambda: match("weights"), "weights & mean weight"),
        ("None", lambda: match(None), "method|matcher & None"),
        ("a list of methods", lambda: match(["weight"]), "method|matcher & weight"),
        ("swapped", lambda: rl.match(SPEC, "weight", A, B), "method|matcher & Spec"),
        ("a spec of another", lambda: match(spec=OTHER_SPEC), "layers/3"),
        ("a spec as a dict", lambda: match(spec=SPEC.axes), "spec & layers/0"),
        ("no spec", lambda: match(spec=None), "spec & None"),
        ("another width", lambda: match(b=WIDER), "layers/0 & 7"),
        ("another depth", lambda: match(b=DEEPER), "layers/2"),
        ("wrapped", lambda: match(b=WRAPPED), "params/layers"),
        ("B is None", lambda: match(b=None), "params_b & None|layers"),
        ("B is a path", lambda: match(b="net.safetensors"), "params_b & str|net"),
        ("B has NaN", lambda: match(b=WITH_NAN), "params_b & layers/1/bias & finite|NaN|nan"),
        ("B has text", lambda: match(b=TEXTS), "layers/1/bias"),
        ("an option misspelt", lambda: match(efort="fast"), "efort & '?effort"),
        ("an effort it has not", lambda: match(effort="medium"), "effort & medium & default"),
        ("a seed of text", lambda: match(seed="0"), "seed & '0'"),
        ("a huge seed", lambda: match("activation", seed=HUGE), "seed & 000"),
        ("no sweep", lambda: match(max_sweeps=0), "max_sweeps & 0"),
        ("half a sweep", lambda: match(max_sweeps=1.5), "max_sweeps & 1.5"),
        ("normalize as text", lambda: match(normalize="no"), "normalize & 'no'"),
        ("ignore as text", lambda: match(ignore="bias"), "ignore & bias"),
        ("ignoring no leaf", lambda: match(ignore=["biass"]), "ignore & biass & 'bias"),
        ("ignoring a number", lambda: match(ignore=[0.5]), "ignore & 0.5"),
        ("a start of duplicates", lambda: match(start=PERM | {"P_0": [0] * 6}), "P_0"),
        ("a start of nothing", lambda: match(start={}), "start|permutation & P_0"),
        ("a start of text", lambda: match(start="identity"), "start|permutation & identity|str"),
        ("no data", lambda: rl.match("activation", SPEC, A, B), "activation & apply_fn & data"),
        ("data it needs not", lambda: match(data=DATA), "weight & data"),
        ("data is None", lambda: match("activation", data=None), "data & None"),
        ("data is a name", lambda: match("activation", data="mnist"), "data & mnist|str"),
        ("data is one array", lambda: match("activation", data=IMAGES), "data & array"),
        ("data is empty", lambda: match("activation", data=[]), "data|batch & none|empty|no "),
        ("apply_fn is a model", lambda: match("activation", apply_fn=MODEL), "apply_fn & Model"),
        ("an unknown place", lambda: match("activation", where="input"), "where & input & read"),
        ("a similarity", lambda: match("activation", similarity="cos"), "similarity & cos"),
        ("no batch", lambda: match("activation", batch_size=0), "batch_size & 0"),
        ("a batch of text", lambda: match("activation", batch_size="50"), "batch_size & '50'"),
        ("no image", lambda: match("activation", num_images=0), "num_images & 0"),
        ("negative images", lambda: match("activation", num_images=-5), "num_images & -5"),
        ("a share of 1.5", lambda: match("combined", activation_share=1.5), "share & 1.5"),
        ("a share of NaN", lambda: match("combined", activation_share=NAN), "share & nan"),
        ("a share of text", lambda: match("combined", activation_share="half"), "share & half"),
        ("no epoch", lambda: match("straight_through", num_epochs=0), "num_epochs & 0"),
        ("a rate of NaN", lambda: match("straight_through", learning_rate=NAN), "rate & nan"),
        ("a negative rate", lambda: match("straight_through", learning_rate=-1), "rate & -1"),
        ("momentum of 2", lambda: match("straight_through", momentum=2.0), "momentum & 2.0"),
        ("no step", lambda: match("straight_through", match_every=0), "match_every & 0"),
        ("no images", lambda: match("straight_through", num_eval_images=0), "num_eval_images & 0"),
        ("no loss", lambda: match("straight_through", loss_fn="mse"), "loss_fn & mse"),
        ("an unknown group", lambda: match("greedy", order=["P_7"]), "order & P_7"),
        ("a group twice", lambda: match("greedy", order=["P_0", "P_0"]), "order & P_0"),
        ("a text for an order", lambda: match("greedy", order="P_0"), "order & P_0"),
        ("greedy by nothing", lambda: match("greedy", similarity="l2"), "similarity & l2"),
        ("no batch for a gradient", lambda: match("steepest_descent", batch_size=-1), "batch_size"),
        ("whole numbers", lambda: match("straight_through", b=INTEGERS), "layers/0 & int32"),
    ],
    "matching.solve_assignment": [
        ("no square", lambda: matching.solve_assignment(np.ones((2, 3))), "square|n, n & 2, 3"),
        ("NaN", lambda: matching.solve_assignment(np.full((2, 2), NAN)), "finite|NaN|nan"),
        ("a list", lambda: matching.solve_assignment([[1.0, 2.0], [3.0]]), "similarity|matrix"),
        ("a vector", lambda: matching.solve_assignment(np.ones(3)), "square|n, n|matrix & 3"),
        ("text", lambda: matching.solve_assignment("x"), "similarity|matrix & str|x"),
    ],
    "rl.merge_many": [
        ("none", lambda: rl.merge_many(SPEC, []), "networks? & 0|none|empty"),
        ("one", lambda: rl.merge_many(SPEC, A), "networks & dict"),
        ("two arguments", lambda: rl.merge_many([A, B], SPEC), "spec & list"),
        ("a generator", lambda: rl.merge_many(SPEC, (p for p in (A, B))), "networks & generator"),
        ("another width", lambda: rl.merge_many(SPEC, [A, B, WIDER]), "layers/0 & 7"),
        ("one wrapped", lambda: rl.merge_many(SPEC, [A, WRAPPED]), "params/layers"),
        ("one is None", lambda: rl.merge_many(SPEC, [A, None]), "None|layers"),
        ("one has NaN", lambda: rl.merge_many(SPEC, [A, B, WITH_NAN]), "2 & layers/1/bias"),
        ("another spec", lambda: rl.merge_many(OTHER_SPEC, [A, B]), "layers/3"),
        ("an unknown start", lambda: merge(start="random"), "start & random & constructive"),
        ("no rounds", lambda: merge(max_rounds=0), "max_rounds & 0"),
        ("rounds of text", lambda: merge(max_rounds="9"), "max_rounds & '9'"),
        ("an unknown effort", lambda: merge(effort="slow"), "effort & slow & thorough"),
        ("a seed of NaN", lambda: merge(seed=NAN), "seed & nan"),
        ("ignoring no leaf", lambda: merge(ignore=["kernle"]), "ignore & kernle & kernel"),
        ("no callback", lambda: merge(on_round="print"), "on_round & print"),
    ],
    "rl.average": [
        ("none", lambda: rl.average([]), "networks? & none|0|empty"),
        ("one network", lambda: rl.average(A), "networks & dict"),
        ("None", lambda: rl.average(None), "networks & None"),
        ("a weight too few", lambda: rl.average([A, B], [1.0]), "weights? & 2 & 1"),
        ("weights of zero", lambda: rl.average([A, B], [0.0, 0.0]), "weights? & 0"),
        ("weights of NaN", lambda: rl.average([A, B], [NAN, 1.0]), "weights? & nan"),
        ("weights of text", lambda: rl.average([A, B], "ab"), "weights? & ab|str"),
        ("weights that cancel", lambda: rl.average([A, B], [1.0, -1.0]), "sum above 0"),
        ("weights of a text", lambda: rl.average([A, B], [1.0, "b"]), "weights? & 'b'|b"),
        ("another width", lambda: rl.average([A, WIDER]), "layers/0 & 7"),
        ("a leaf of text", lambda: rl.average([A, TEXTS]), "layers/1/bias"),
        ("wrapped", lambda: rl.average([A, WRAPPED]), "params/layers"),
    ],
    "rl.ensemble": [
        ("no function", lambda: rl.ensemble(None), "apply_fn & None"),
        ("networks", lambda: rl.ensemble([A, B]), "apply_fn & list"),
        ("an unknown way", lambda: rl.ensemble(apply_fn, "logits"), "combine & logits & prob"),
        ("no networks", lambda: rl.ensemble(apply_fn)([], IMAGES), "networks? & none|0|empty"),
        ("one network", lambda: rl.ensemble(apply_fn)(A, IMAGES), "networks? & dict"),
    ],
    "rl.lerp": [
        ("swapped", lambda: rl.lerp(A, B, 0.5), "lam|lambda & dict"),
        ("a text", lambda: rl.lerp("0.5", A, B), "lam|lambda & 0.5"),
        ("None", lambda: rl.lerp(None, A, B), "lam|lambda & None"),
        ("NaN", lambda: rl.lerp(NAN, A, B), "lam|lambda & nan"),
        ("a list", lambda: rl.lerp([0.0, 1.0], A, B), "lam|lambda & 0.0"),
        ("another width", lambda: rl.lerp(0.5, A, WIDER), "layers/0 & 7"),
        ("wrapped", lambda: rl.lerp(0.5, A, WRAPPED), "params/layers"),
        ("a leaf of text", lambda: rl.lerp(0.5, A, TEXTS), "layers/1/bias"),
        ("nothing", lambda: rl.lerp(0.5, A, None), "layers|None"),
    ],
    "rl.distance": [
        ("None", lambda: rl.distance(A, None), "layers|None"),
        ("another width", lambda: rl.distance(A, WIDER), "layers/0 & 7"),
        ("wrapped", lambda: rl.distance(A, WRAPPED), "params/layers"),
        ("a leaf of text", lambda: rl.distance(A, TEXTS), "layers/1/bias"),
        ("a path", lambda: rl.distance(A, "b.safetensors"), "params_b|str|b.safetensors"),
    ],
    "rl.evaluate": [
        ("no function", lambda: evaluate(None), "apply_fn & None"),
        ("a model", lambda: evaluate(MODEL), "apply_fn & Model"),
        ("swapped", lambda: rl.evaluate(apply_fn, A, LABELS, IMAGES), "labels|images"),
        ("a label short", lambda: evaluate(labels=LABELS[1:]), "label & 15 & 14"),
        ("floats", lambda: evaluate(labels=LABELS + 0.5), "labels & float"),
        ("negative", lambda: evaluate(labels=LABELS - 1), "label & -1"),
        ("out of range", lambda: evaluate(labels=LABELS + 1), "label & 3"),
        ("lists of text", lambda: evaluate(labels=["a"] * 15), "labels"),
        ("images in a list", lambda: evaluate(images="images"), "images & 'images'"),
        (
            "no images",
            lambda: evaluate(images=IMAGES[:0], labels=LABELS[:0]),
            "images & 0|none|no ",
        ),
        ("NaN", lambda: rl.evaluate(apply_fn, WITH_NAN, IMAGES, LABELS), "layers/1/bias"),
        ("wrapped", lambda: rl.evaluate(apply_fn, {"params": A}, IMAGES, LABELS), "layers"),
        ("no logits", lambda: evaluate(no_classes), "apply_fn|logits"),
        ("two outputs", lambda: evaluate(two_outputs), "apply_fn|logits"),
        ("broken", lambda: evaluate(broken), "apply_fn|broken & nothing"),
        ("no loss", lambda: evaluate(loss_fn="mse"), "loss_fn & mse"),
    ],
    "rl.interpolation_curve": [
        ("no data", lambda: curve(data=None), "data & None"),
        ("images for data", lambda: curve(data=IMAGES), "data & array"),
        ("a name", lambda: curve(data="mnist"), "data & str|mnist"),
        ("one point", lambda: curve(num_lambdas=1), "num_lambdas & 1"),
        ("a float", lambda: curve(num_lambdas=5.0), "num_lambdas & 5.0"),
        ("a list of lambdas", lambda: curve(num_lambdas=[0, 1]), r"num_lambdas & \[0, 1\]"),
        ("a bool", lambda: curve(num_lambdas=True), "num_lambdas & True"),
        ("another width", lambda: curve(b=WIDER), "layers/0 & 7"),
        ("another depth", lambda: curve(b=DEEPER), "layers/2"),
        ("wrapped", lambda: curve(b=WRAPPED), "params/layers"),
        ("NaN in A", lambda: curve(a=WITH_NAN), "parameters & layers/1/bias & NaN"),
        ("no function", lambda: curve(fn=3), "apply_fn & 3"),
        ("no callback", lambda: curve(on_point=True), "on_point & True"),
        ("unhashable", lambda: curve(fn=Unhashable()), "apply_fn & hash"),
    ],
    "rl.loss_barrier": [
        ("an unknown split", lambda: rl.loss_barrier(CURVE, split="val"), "split & val & test"),
        ("an unknown baseline", lambda: rl.loss_barrier(CURVE, baseline="max"), "baseline & max"),
        ("no curve", lambda: rl.loss_barrier(None), "curve & None"),
        ("losses", lambda: rl.loss_barrier([0.1, 0.5, 0.1]), "curve & 0.1 & interpolation_curve"),
    ],
    "rl.InterpolationCurve": [
        ("another length", lambda: curve_with(test_loss=np.zeros(2)), "test_loss & 3 & 2"),
        ("nothing", lambda: curve_with(train_loss=None), "train_loss & None"),
        ("text", lambda: curve_with(lambdas="line"), "lambdas & str|line"),
        (
            "one point",
            lambda: rl.loss_barrier(rl.InterpolationCurve(*[np.zeros(1)] * 5)),
            "two ends & 0.",
        ),
    ],
    "rl.loss_contour": [
        ("no resolution", lambda: contour(resolution=0), "resolution & 0"),
        ("a float", lambda: contour(resolution=2.5), "resolution & 2.5"),
        ("a range of one", lambda: contour(x_range=(0.0,)), "x_range & 0.0"),
        ("a range of NaN", lambda: contour(y_range=(NAN, 1.0)), "y_range & nan"),
        ("a range of a number", lambda: contour(x_range=1.0), "x_range & 1.0"),
        ("a range of text", lambda: contour(y_range="01"), "y_range & 01"),
        ("the same model twice", lambda: contour(b=A), "params_b|plane|differ|same"),
        ("three on a line", lambda: contour(c=rl.lerp(0.5, A, B)), "line|plane"),
        ("another width", lambda: contour(c=WIDER), "layers/0 & 7"),
        ("labels short", lambda: contour(labels=LABELS[:3]), "label & 3"),
    ],
    "rl.compare_matchers": [
        ("an unknown method", lambda: compare(methods=("weigth",)), "weigth & weight"),
        ("one name", lambda: compare(methods="weight"), "methods & weight"),
        ("no method", lambda: compare(methods=()), r"methods & \[\]"),
        ("a method twice", lambda: compare(methods=("weight", "weight")), "weight & twice|once"),
        ("options of another", lambda: compare(methods={"weight": {"data": 1}}), "weight & data"),
        ("options of text", lambda: compare(methods={"weight": "fast"}), "weight & fast"),
        ("another name", lambda: compare(results={"activatoin": match()}), "results & activatoin"),
        ("permutations", lambda: compare(results={"weight": PERM}), "results & weight & dict"),
        ("one lambda", lambda: compare(num_lambdas=1), "num_lambdas & 1"),
        ("no data", lambda: compare(data=None), "data & None"),
        ("no spec", lambda: compare(spec=None), "spec & None"),
        ("evaluated on images", lambda: compare(eval_data=IMAGES), "eval_data & array"),
        ("no callback", lambda: compare(on_method=1), "on_method & 1"),
        ("a negative seed", lambda: compare(seed=-3), "seed & -3"),
    ],
    "rl.comparison_table": [
        ("one comparison", lambda: rl.comparison_table({"weight": 1}), "compared & dict|weight"),
        ("none", lambda: rl.comparison_table([]), r"compared|comparison & none|empty|\[\]"),
        ("other methods", lambda: rl.comparison_table(tables("naive", "weight")), "naive|weight"),
        ("numbers", lambda: rl.comparison_table([3]), "compared|comparison & 3"),
    ],
    "rl.calibration_summary": [
        ("no bins", lambda: calibration(num_bins=0), "num_bins & 0"),
        ("bins of text", lambda: calibration(num_bins="15"), "num_bins & '15'"),
        ("labels short", lambda: calibration(labels=LABELS[:2]), "label & 15 & 2"),
        ("labels out of range", lambda: calibration(labels=LABELS + 7), "label & 7|9"),
        ("no function", lambda: calibration(fn="mlp"), "apply_fn & mlp"),
        ("wrapped", lambda: calibration(params=WRAPPED), "layers"),
    ],
    "rl.reliability_curve": [
        ("a vector", lambda: rl.reliability_curve(np.zeros(3), LABELS[:3]), "logits & 3"),
        ("labels short", lambda: rl.reliability_curve(np.zeros((3, 3)), LABELS[:2]), "label & 2"),
        (
            "NaN",
            lambda: rl.reliability_curve(np.full((3, 3), NAN), LABELS[:3]),
            "logits & nan|NaN|finite",
        ),
        ("of nothing", lambda: reliability(predictions="all"), "predictions & 'all' & all classes"),
        ("half a bin", lambda: reliability(num_bins=0.5), "num_bins & 0.5"),
        ("huge", lambda: reliability(num_bins=HUGE), "num_bins & 000"),
        ("a list of lists", lambda: rl.reliability_curve("logits", LABELS), "logits & 'logits'"),
    ],
    "rl.Dataset": [
        (
            "labels short",
            lambda: with_data(train_labels=FIELDS["train_labels"][1:]),
            "train & 30 & 29",
        ),
        (
            "labels in a list",
            lambda: with_data(test_labels=list(LABELS)),
            r"test_labels & int32\(0\)|\[0",
        ),
        ("one class", lambda: with_data(num_classes=0), "num_classes & 0"),
        ("classes of text", lambda: with_data(num_classes="3"), "num_classes & '3'"),
        ("names as a text", lambda: with_data(class_names="abc"), "class_names & abc"),
        ("nothing", lambda: with_data(train_images=None), "train_images & None"),
        ("a name of None", lambda: with_data(name=None), "name & None"),
        ("subset out of range", lambda: DATA.subset(np.array([99])), "99 & 30"),
        ("subset below zero", lambda: DATA.subset(np.array([-1, 0])), "-1 & 30"),
        ("subset of floats", lambda: DATA.subset(np.array([0.5])), "indices & float|0.5"),
        ("subset of nothing", lambda: DATA.subset(None), "indices & None"),
        ("subset of a number", lambda: DATA.subset(5), "indices & 5"),
        ("shrunk by 0", lambda: DATA.shrunk(0), "factor|shrink & 0"),
        ("shrunk by 3", lambda: DATA.shrunk(3), "factor|shrink|3 & 4"),
        ("shrunk by a half", lambda: DATA.shrunk(0.5), "factor|shrink & 0.5"),
    ],
    "rl.load_dataset": [
        ("a near miss", lambda: rl.load_dataset("mnits"), "mnits & 'mnist'"),
        ("None", lambda: rl.load_dataset(None), "name|data set & None"),
        ("a list", lambda: rl.load_dataset(["mnist"]), "name|data set & mnist"),
        ("a path", lambda: rl.load_dataset("data/mnist"), "data/mnist & mnist"),
        ("upper case", lambda: rl.load_dataset("MNIST"), "MNIST & mnist"),
        ("a folder of numbers", lambda: rl.load_dataset("mnist", data_dir=3), "data_dir & 3"),
        ("a folder that is not there", lambda: load_mnist(data_dir="nowhere"), "nowhere"),
        ("a file for a folder", lambda: load_mnist(data_dir=written("x")), "file & folder"),
        ("an empty folder", lambda: load_mnist(data_dir=""), "data_dir|''|folder"),
    ],
    "rl.random_halves": [
        ("negative", lambda: rl.random_halves(-1, seed=0), "num_examples & -1"),
        ("a float", lambda: rl.random_halves(10.0, seed=0), "num_examples & 10.0"),
        ("the labels", lambda: rl.random_halves(LABELS, seed=0), "num_examples & array"),
        ("a seed of text", lambda: rl.random_halves(10, seed="a"), "seed & 'a'"),
        ("huge", lambda: rl.random_halves(HUGE, seed=0), "num_examples & 000"),
    ],
    "rl.label_biased_split": [
        ("a minority of 2", lambda: rl.label_biased_split(LABELS, 3, minority=2), "minority & 2"),
        ("NaN", lambda: rl.label_biased_split(LABELS, 3, minority=NAN), "minority & nan"),
        ("a class too few", lambda: rl.label_biased_split(LABELS, 2), "2 & class"),
        ("a list", lambda: rl.label_biased_split(list(LABELS), 3), "labels & NumPy array"),
        ("one-hot", lambda: rl.label_biased_split(np.eye(3, dtype=int), 3), "labels & 3, 3"),
        ("swapped", lambda: rl.label_biased_split(3, LABELS), "labels & 3"),
        ("none", lambda: rl.label_biased_split(LABELS[:0], 3), "labels & none|0|empty"),
        ("a negative seed", lambda: rl.label_biased_split(LABELS, 3, seed=-1), "seed & -1"),
        ("no class", lambda: rl.label_biased_split(LABELS, 0), "num_classes & 0"),
    ],
    "datasets.View": [
        ("an unknown part", lambda: datasets.View(part="biased c"), "part & biased c & biased a"),
        ("negative", lambda: datasets.View(num_train=-1), "num_train & -1"),
        ("text", lambda: datasets.View(num_train="all"), "num_train & 'all'"),
        ("shrunk by 0", lambda: datasets.View(shrink=0), "shrink & 0"),
        ("shrunk by half", lambda: datasets.View(shrink=0.5), "shrink & 0.5"),
        ("a minority of 0.6", lambda: datasets.View(minority=0.6), "minority & 0.6"),
        ("a minority of NaN", lambda: datasets.View(minority=NAN), "minority & nan"),
        ("a seed of text", lambda: datasets.View(part_seed="0"), "part_seed & '0'"),
        ("a list", lambda: datasets.View(part=["all"]), "part & all"),
        ("no view", lambda: datasets.load_view("mnist5k", None), "view & None"),
        (
            "an unknown set",
            lambda: datasets.load_view("mnist5", datasets.View()),
            "mnist5 & mnist5k",
        ),
    ],
    "rl.build_model": [
        ("a near miss", lambda: build("mpl"), "mpl & mean mlp"),
        ("None", lambda: build(None), "architecture & None"),
        ("a list", lambda: build(["mlp"]), "architecture & mlp"),
        ("a class", lambda: build(rl.Model), "architecture & Model"),
        ("no data", lambda: rl.build_model("mlp", dataset=None), "dataset & None"),
        ("a name of data", lambda: rl.build_model("mlp", dataset="mnist"), "dataset & mnist"),
        ("an option misspelt", lambda: build("mlp", widht=64), "widht & width"),
        ("another option", lambda: build("mlp", width_multiplier=2), "width_multiplier & mlp"),
        ("no width", lambda: build("mlp", width=0), "width & 0"),
        ("a width of text", lambda: build("mlp", width="64"), "width & '64'"),
        ("a float", lambda: build("mlp", width=64.0), "width & 64.0"),
        ("a bool", lambda: build("mlp", width=True), "width & True"),
        ("huge", lambda: build("mlp", width=HUGE), "width & 000"),
        ("widths", lambda: build("mlp", width=[64, 64]), "width & 64, 64"),
        ("negative layers", lambda: build("mlp", num_hidden_layers=-1), "num_hidden_layers & -1"),
        ("NaN", lambda: build("vgg16", width_multiplier=NAN), "width_multiplier & nan"),
        ("infinite", lambda: build("resnet20", width_multiplier=INF), "width_multiplier & inf"),
        (
            "heads that do not divide",
            lambda: build("vit", width=10, num_heads=3),
            "width & num_heads & 10 & 3",
        ),
        ("patches that do not fit", lambda: build("vit", patch_size=3), "patch_size & 3 & 4"),
    ],
    "rl.Model": [
        ("an integer for a key", lambda: MODEL.init(0), "key & 0"),
        ("a wrong shape", lambda: MODEL.apply(A, IMAGES[:, :2]), "4, 4, 1 & 2, 4, 1"),
        ("no images", lambda: MODEL.apply(A, None), "images & None"),
        ("wrapped", lambda: MODEL.apply(WRAPPED, IMAGES), "params/layers|layers"),
        ("another width", lambda: MODEL.apply(WIDER, IMAGES), "layers/0 & 7"),
        ("another depth", lambda: MODEL.apply(DEEPER, IMAGES), "layers/3|layers/2"),
        ("no parameters", lambda: MODEL.apply(None, IMAGES), "layers|None"),
        ("swapped", lambda: MODEL.apply(IMAGES, A), "images|params & dict|array"),
    ],
    "rl.TrainConfig": [
        ("an unknown optimizer", lambda: rl.TrainConfig(optimizer="adm"), "optimizer & adm & adam"),
        ("an unknown schedule", lambda: rl.TrainConfig(schedule="cos"), "schedule & cos"),
        ("a negative rate", lambda: rl.TrainConfig(learning_rate=-1.0), "learning_rate & -1.0"),
        ("a rate of NaN", lambda: rl.TrainConfig(learning_rate=NAN), "learning_rate & nan"),
        ("a rate of zero", lambda: rl.TrainConfig(learning_rate=0.0), "learning_rate & 0.0"),
        ("a rate of text", lambda: rl.TrainConfig(learning_rate="1e-3"), "learning_rate & '1e-3'"),
        ("no batch", lambda: rl.TrainConfig(batch_size=0), "batch_size & 0"),
        ("half a batch", lambda: rl.TrainConfig(batch_size=0.5), "batch_size & 0.5"),
        ("negative epochs", lambda: rl.TrainConfig(num_epochs=-1), "num_epochs & -1"),
        ("no epochs", lambda: rl.TrainConfig(num_epochs=0), "num_epochs & 0"),
        ("epochs of text", lambda: rl.TrainConfig(num_epochs="5"), "num_epochs & '5'"),
        ("momentum of 2", lambda: rl.TrainConfig(momentum=2.0), "momentum & 2.0"),
        ("negative decay", lambda: rl.TrainConfig(weight_decay=-1e-4), "weight_decay & -0.0001"),
        ("negative warm-up", lambda: rl.TrainConfig(warmup_steps=-1), "warmup_steps & -1"),
        ("augment as text", lambda: rl.TrainConfig(augment="no"), "augment & 'no'"),
    ],
    "rl.train": [
        ("swapped", lambda: rl.train(DATA, MODEL, CONFIG, seed=0), "model & Dataset"),
        ("no configuration", lambda: train(config=None), "config & None"),
        ("a dict", lambda: train(config={"num_epochs": 1}), "config & TrainConfig & num_epochs"),
        ("a name", lambda: train("mlp"), "model & mlp"),
        ("a seed of text", lambda: train(seed="0"), "seed & '0'"),
        ("a negative seed", lambda: train(seed=-1), "seed & -1"),
        ("a huge seed", lambda: train(seed=HUGE), "seed & 000"),
        ("an unknown loop", lambda: train(loop="for"), "loop & for & scan"),
        ("parameters for a state", lambda: train(state=A), "state & dict"),
        ("no callback", lambda: train(on_epoch="log"), "on_epoch & log"),
        ("a large batch", lambda: train(config=rl.TrainConfig()), "batch_size & 500 & 30 & Lower"),
        ("other images", lambda: train(data=DATA.shrunk(2)), "4, 4, 1|images & 2"),
        (
            "more classes",
            lambda: train(data=with_data(num_classes=4, class_names=tuple("abcd"))),
            "3 & 4 & class",
        ),
    ],
    "rl.Experiment": [
        ("no architecture", lambda: rl.Experiment("mnist5k", 0, CONFIG, "mpl"), "mpl & mlp"),
        (
            "a dict of settings",
            lambda: rl.Experiment("mnist5k", 0, {"batch_size": 3}),
            "train & batch_size",
        ),
        ("a seed of text", lambda: rl.Experiment("mnist5k", "0", CONFIG), "seed & '0'"),
        ("a negative seed", lambda: EXPERIMENT.with_seed(-1), "seed & -1"),
        ("an unknown size", lambda: EXPERIMENT.with_sizes(widht=64), "widht & width"),
        ("a size of text", lambda: EXPERIMENT.with_sizes(width="64"), "options & '64'"),
        ("an unknown view", lambda: EXPERIMENT.with_view(prt="all"), "prt & part"),
        ("no setting", lambda: EXPERIMENT.with_training(num_epoch=1), "num_epoch & num_epochs"),
        ("no epoch", lambda: experiment_with(snapshot_epochs=(-1,)), "snapshot_epochs & -1"),
        ("snapshots", lambda: experiment_with(snapshot_epochs="12"), "snapshot_epochs & 12"),
        ("options as a dict", lambda: experiment_with(options={"width": 3}), "options & width"),
        ("no view", lambda: experiment_with(view=None), "view & None"),
    ],
    "rl.get_profile": [
        ("a near miss", lambda: rl.get_profile("quik"), "quik & quick"),
        ("None", lambda: rl.get_profile(None), "profile & None"),
        ("a list", lambda: rl.get_profile(["quick"]), "profile & quick"),
        ("an unknown field", lambda: rl.get_profile("quick", widht=3), "widht & width"),
        ("another name", lambda: rl.get_profile("quick", name="mine"), "name"),
    ],
    "rl.Profile": [
        ("None for a width", lambda: profile_with(width=None), "width & None"),
        ("text for epochs", lambda: profile_with(num_epochs="9"), "num_epochs & '9'"),
    ],
    "networks and profiles": [
        ("a profile of no name", lambda: rl.get_profile("quik"), "quik & quick"),
        (
            "a convolutional width",
            lambda: rl.get_profile("laptop", convolutional_width=NAN),
            "convolutional_width & nan",
        ),
        (
            "convolutional epochs",
            lambda: rl.get_profile("laptop", convolutional_epochs=-1),
            "convolutional_epochs & -1",
        ),
        (
            "convolutional images",
            lambda: rl.get_profile("laptop", convolutional_images="all"),
            "convolutional_images & all",
        ),
        ("a trial as text", lambda: rl.get_profile("quick", trial="no"), "trial & 'no'"),
        (
            "trainings of no notebook",
            lambda: sections.trainings("04_loss", rl.get_profile("quick")),
            "04_loss & 02_line_and_barrier",
        ),
        (
            "trainings of a name",
            lambda: sections.trainings("02_line_and_barrier", "quick"),
            "profile & quick",
        ),
        ("stored, of a name", lambda: store.is_stored("mnist"), "experiment & mnist"),
    ],
    "rl.trained": [
        ("a name", lambda: rl.trained("mnist"), "experiment & mnist"),
        ("None", lambda: rl.trained(None), "experiment & None"),
        ("a list", lambda: rl.trained([EXPERIMENT]), "experiment & list"),
        ("a store of numbers", lambda: rl.trained(EXPERIMENT, store=3), "store & 3"),
        ("no store", lambda: rl.trained(EXPERIMENT, store=written("x")), "file & folder|store"),
        ("an unknown style", lambda: rl.trained(EXPERIMENT, style="dots"), "style & dots & bar"),
        ("images for data", lambda: rl.trained(EXPERIMENT, data=IMAGES), "data & array"),
        ("no callback", lambda: rl.trained(EXPERIMENT, on_epoch=1), "on_epoch & 1"),
    ],
    "rl.train_all": [
        ("one experiment", lambda: rl.train_all(EXPERIMENT), "experiments & Experiment"),
        ("a name in it", lambda: rl.train_all(["mnist"]), "experiment & mnist"),
        ("None", lambda: rl.train_all(None), "experiments & None"),
        ("no jobs", lambda: rl.train_all([EXPERIMENT], num_jobs=0), "job & 0"),
        ("half a job", lambda: rl.train_all([EXPERIMENT], num_jobs=1.5), "job & 1.5"),
        ("a million jobs", lambda: rl.train_all([EXPERIMENT], num_jobs=10**6), "job & 1,?000,?000"),
        ("a number of text", lambda: rl.train_all([EXPERIMENT], num_jobs="2"), "job & '2'"),
        ("no executor", lambda: rl.train_all([EXPERIMENT], executor="dask"), "executor & dask"),
        ("an unknown style", lambda: rl.train_all([EXPERIMENT], style=None), "style & None"),
        ("missing", lambda: train_many.missing_from(["mnist"]), "experiment & mnist"),
    ],
    "rl.cached": [
        ("no function", lambda: rl.cached(3), "function & 3"),
        ("a closure", lambda: rl.cached(lambda: 3), "lambda|function"),
        ("the result", lambda: rl.cached(rl.distance(A, B)), r"function & \d\.\d"),
        ("an object", lambda: rl.cached(rl.distance, A, object()), "object"),
        (
            "a function of one's own",
            lambda: rl.cached(rl.evaluate, apply_fn, A, IMAGES, LABELS),
            "apply_fn",
        ),
        ("a generator", lambda: rl.cached(rl.average, (p for p in (A, B))), "generator"),
        ("a partial", lambda: rl.cached(functools.partial(rl.distance, A), B), "partial"),
        (
            "an open file",
            lambda: rl.cached(rl.distance, A, os.devnull and open(os.devnull)),
            "TextIOWrapper|file",
        ),
    ],
    "rl.open_run": [
        ("an unknown profile", lambda: open_run(profile="quik"), "quik & quick"),
        ("a path for a notebook", lambda: open_run("../x"), r"notebook & \.\./x"),
        ("no name", lambda: open_run(""), "notebook & ''"),
        ("None", lambda: open_run(None), "notebook & None"),
        ("an unknown field", lambda: open_run(widht=3), "widht & width"),
        ("a wrong value", lambda: open_run(width="wide"), "width & wide"),
        ("less than no jobs", lambda: open_run(num_jobs=-1), "job & -1"),
        ("settings as a dict", lambda: open_run(settings={"width": 3}), "settings & dict|width"),
        ("a file", lambda: open_run(run_dir=str(written("x"))), "run_dir|folder & file"),
        ("a folder of numbers", lambda: open_run(run_dir=5), "run_dir & 5"),
        ("trial as text", lambda: open_run(trial="no"), "trial & 'no'"),
        ("interactive as text", lambda: open_run(interactive="no"), "interactive & 'no'"),
    ],
    "Run": [
        ("a group of no name", lambda: run().train("mlps"), "mlps & MLP"),
        ("an unknown claim", lambda: run().check("nothing", 1.0), "claim & nothing"),
        ("a claim of text", lambda: run().check(CLAIM, "much"), f"{CLAIM} & much"),
        ("a path for a figure", lambda: figure("../f"), r"name & \.\./f"),
        ("an unknown plot", lambda: figure(plot="interpolaton"), "interpolaton & interpolation"),
        ("an unknown claim of a figure", lambda: figure(claims=["nothing"]), "claim & nothing"),
        ("numbers that are none", lambda: figure(numbers={"x": object()}), "numbers & curves"),
    ],
    "claims.measure": [
        ("an unknown claim", lambda: claims.measure("nothing", "quick", 1.0), "claim & nothing"),
        ("a profile", lambda: claims.measure(CLAIM, "quik", 1.0), "profile & quik & quick"),
        ("nothing", lambda: claims.measure(CLAIM, "quick", []), f"{CLAIM} & none|number"),
        ("None", lambda: claims.measure(CLAIM, "quick", None), f"{CLAIM} & None"),
        ("text", lambda: claims.measure(CLAIM, "quick", "0.5x"), f"{CLAIM} & 0.5x"),
        ("a scoreboard of a list", lambda: claims.scoreboard("quick", [CLAIM]), "measured & list"),
        ("a scoreboard of no profile", lambda: claims.scoreboard("quik", {}), "profile & quik"),
    ],
    "rl.dials": [
        ("no function", lambda: rl.dials(None, interactive=False), "draw & None"),
        ("a number for a control", lambda: dial(lam=0.5), "lam & 0.5"),
        ("a range that falls", lambda: dial(lam=(3, 1)), r"lam & 3, 1"),
        ("no values for a control", lambda: dial(lam=[]), r"lam & \[\]"),
        ("a control it does not take", lambda: dial(lamb=ipywidgets.IntSlider()), "lamb & lam"),
        ("a class", lambda: dial(lam=ipywidgets.IntSlider), "lam & IntSlider"),
        ("a button", lambda: dial(lam=ipywidgets.Button()), "lam & Button"),
        (
            "a draw of nothing",
            lambda: dial(lambda lam: None, lam=ipywidgets.IntSlider()),
            "draw & None",
        ),
        (
            "a draw of a figure",
            lambda: dial(lambda lam: 3, lam=ipywidgets.IntSlider()),
            "draw & 3|int",
        ),
        ("no stops", lambda: dial(lam=ipywidgets.TagsInput(value=["a"])), "lam & TagsInput"),
        (
            "a line that is not there",
            lambda: rl.dials(lambda: picture(), predict="nave, train"),
            "predict & 'nave, train' & naive, train",
        ),
        ("lists", lambda: dial(lam=[[1], [2]]), r"lam & hash & \[1\]"),
    ],
    "rl.picture": [
        ("an unknown plot", lambda: picture("interpolaton"), "interpolaton & interpolation"),
        ("None", lambda: picture(None), "plot & None"),
        ("a size of one", lambda: picture(size=(8,)), "size & 8"),
        ("a size of NaN", lambda: picture(size=(NAN, 3.0)), "size & nan"),
        ("a negative size", lambda: picture(size=(-8.0, 3.0)), "size & -8"),
        ("a huge size", lambda: picture(size=(1e9, 3.0)), r"size & 1e\+?0?9|1000000000"),
        ("numbers of a list", lambda: picture(numbers=[1]), r"numbers & \[1\]"),
        ("numbers with an object", lambda: picture(numbers={"x": object()}), "numbers & curves"),
        ("alt is None", lambda: picture(alt=None), "alt & None"),
        ("no alt", lambda: picture(alt=""), "alt & ''|empty"),
        ("a caption of a number", lambda: picture(caption=3), "caption & 3"),
    ],
    "figures": [
        ("a path for a name", lambda: save_figure("../f"), r"name & \.\./f"),
        ("no name", lambda: save_figure(""), "name & ''"),
        ("an unknown plot", lambda: save_figure(plot="lines"), "plot & lines"),
        ("numbers missing", lambda: save_figure(), "numbers & curves"),
        ("a text for provenance", lambda: save_figure(provenance="mine"), "provenance & mine"),
        ("a folder of numbers", lambda: figures.saved_figures(3), "directory & 3"),
        ("redrawn from nothing", lambda: figures.redraw(Path("nothing.json")), "nothing.json"),
        ("a list", lambda: figures.redraw(written("[]", "f.json")), "f.json & list|object"),
        ("redrawn from no plot", lambda: figures.redraw(written("{}", "f.json")), "f.json & plot"),
        ("a record of a list", lambda: figures.draw([]), r"record & \[\]"),
        ("a picture of no kind", lambda: figures.render(picture(), "gif"), "gif & png"),
        ("data of a name", lambda: figures.describe_dataset("mnist"), "data & mnist"),
    ],
    "figure_export": [
        ("an unknown format", lambda: figure_export.parse_formats("svg,gif"), "gif & svg"),
        ("no format", lambda: figure_export.parse_formats(""), "format & ''|none"),
        ("a list", lambda: figure_export.parse_formats(["svg"]), "format & svg"),
        ("an unknown width", lambda: export(width="triple"), "width & triple & double"),
        ("no figure", lambda: export([]), "figure & none|0|no "),
        (
            "one figure",
            lambda: figure_export.export_figures(Path("f.json"), Path("out")),
            "chosen|figures & Path",
        ),
        ("a text", lambda: export(formats="svg"), "formats & svg"),
        ("a file that is none", lambda: export([written("x", "in/nb/f.json")]), "f.json"),
        ("a figure not there", lambda: export([Path("in/nb/g.json")]), "g.json"),
        ("chosen from nothing", lambda: figure_export.choose_figures(Path("nowhere")), "nowhere"),
        ("no name", lambda: figure_export.choose_figures(folder_of_figures(), ["99"]), "99"),
        ("a gallery of nothing", lambda: figure_export.write_gallery(Path("nowhere")), "nowhere"),
    ],
    "checkpoints": [
        ("nothing there", lambda: checkpoints.load(Path("net")), "net"),
        ("a folder", lambda: checkpoints.load(Path(".")), "no file"),
        ("no checkpoint", lambda: checkpoints.load(written("x")), "file"),
        ("an empty file", lambda: checkpoints.load(written("")), "file"),
        ("a number for a path", lambda: checkpoints.load(3), "path & 3"),
        ("None", lambda: checkpoints.load(None), "path & None"),
        ("like another", lambda: checkpoints.load(stored(), like=WIDER), "layers/0 & 7"),
        ("like a deeper", lambda: checkpoints.load(stored(), like=DEEPER), "layers/2"),
        ("like text", lambda: checkpoints.load(stored(), like="params"), "like & params"),
        (
            "another configuration",
            lambda: checkpoints.load(stored(), config={"width": 3}),
            "config & width",
        ),
        ("a leaf of text", lambda: checkpoints.save(Path("n"), TEXTS, {}), "layers/1/bias"),
        (
            "a leaf of objects",
            lambda: checkpoints.save(Path("n"), {"w": np.array([None])}, {}),
            "w & object",
        ),
        (
            "metadata of objects",
            lambda: checkpoints.save(Path("n"), A, {"x": object()}),
            "metadata & x|object",
        ),
        ("metadata of a list", lambda: checkpoints.save(Path("n"), A, ["x"]), "metadata & 'x'"),
        (
            "two leaves of one path",
            lambda: checkpoints.save(Path("n"), {"a": {1: A, "1": A}}, {}),
            "keys & sorted",
        ),
        ("swapped", lambda: checkpoints.save(A, Path("n"), {}), "path & dict"),
    ],
    "collapse.walk_line": [
        ("no model", lambda: walk_line(model=apply_fn), "model & function|apply_fn"),
        ("another spec", lambda: walk_line(spec=OTHER_SPEC), "layers/3"),
        ("another width", lambda: walk_line(b=WIDER), "layers/0 & 7"),
        ("no images", lambda: walk_line(images=IMAGES[:0]), "images & 0|no "),
        ("images of text", lambda: walk_line(images="test"), "images & test|str"),
        ("no lambdas", lambda: walk_line(num_lambdas=0), "num_lambdas & 0"),
        ("statistics", lambda: walk_line(statistics_from="train"), "statistics_from & train"),
    ],
    "symmetry.trace_activations": [
        ("an unknown place", lambda: trace(where="out"), "where & out & read"),
        ("no spec", lambda: trace(spec=None), "spec & None"),
        ("another network", lambda: trace(params=DEEPER), "layers/3"),
        ("broken", lambda: symmetry.trace_activations(broken, SPEC, A, IMAGES), "nothing"),
        ("no input", lambda: symmetry.trace_activations(apply_fn, SPEC, A), "input|images"),
    ],
    "symmetry.axes": [
        ("no text", lambda: symmetry.axes.parse_entry(3), "entry|text & 3"),
        ("empty", lambda: symmetry.axes.parse_entry(""), "''|empty"),
        ("a minus", lambda: symmetry.axes.parse_entry("P - 3"), "P - 3"),
        ("far too deep", lambda: symmetry.axes.parse_entry("(" * 10_000), r"\("),
        ("digits", lambda: symmetry.axes.parse_entry("9" * 10_000 + "*P"), "18 digits & 10,?000"),
        (
            "an unknown size",
            lambda: symmetry.axes.total_size(symmetry.axes.parse_entry("P"), {}),
            "P",
        ),
        (
            "a leaf of other axes",
            lambda: symmetry.permute_axes(np.ones(3), ("P", "Q"), {"P": np.arange(3)}),
            "2|Q",
        ),
        ("a name of no order", lambda: symmetry.permute_axes(np.ones(3), ("P",), {}), "P"),
    ],
    "merging.reestimate_statistics": [
        ("no model", lambda: merging.reestimate_statistics(None, A, IMAGES), "model & None"),
        ("no images", lambda: reestimate(images=IMAGES[:0]), "images & none"),
        ("no batch", lambda: reestimate(batch_size=0), "batch_size & 0"),
        ("no batches", lambda: reestimate(num_batches=0), "num_batches & 0"),
        ("another network", lambda: reestimate(A), "layers|stem|missing"),
    ],
    "counterexample": [
        ("half a network", lambda: counterexample.train_networks(1.5), "num_networks & 1.5"),
        ("no network", lambda: counterexample.train_networks(0), "num_networks & 0"),
        ("no steps", lambda: counterexample.train_networks(1, num_steps=-1), "num_steps & -1"),
        (
            "a rate of NaN",
            lambda: counterexample.train_networks(1, learning_rate=NAN),
            "learning_rate & nan",
        ),
        ("no batch", lambda: counterexample.train_networks(1, batch_size=0), "batch_size & 0"),
        ("an unknown order", lambda: counterexample.closed_form_error("idnt", LINE), "idnt"),
        ("no points", lambda: counterexample.random_points(-1), "num_points & -1"),
        ("a grid of text", lambda: counterexample.grid_points("9"), "resolution & '9'"),
        ("points of three", lambda: counterexample.true_labels(np.ones((4, 3))), "points & 4, 3"),
        ("epsilon of text", lambda: counterexample.linear_pair("small"), "epsilon & small"),
    ],
    "pytrees": [
        ("twice", lambda: pytrees.flatten({"a": {"b": LINE}, "a/b": LINE}), "a/b & more than once"),
        ("a leaf under a leaf", lambda: pytrees.unflatten({"a": LINE, "a/b": LINE}), "a"),
        ("no mapping", lambda: pytrees.unflatten([LINE]), "flat|mapping & list"),
        ("other trees", lambda: pytrees.inner_product(A, DEEPER), "layers/2"),
        ("no function", lambda: pytrees.map_with_path(None, A), "fn & None"),
    ],
    "progress.progress_bar": [
        ("negative", lambda: progress.progress_bar(-1, "x").__enter__(), "total & -1"),
        ("text", lambda: progress.progress_bar("5", "x").__enter__(), "total & '5'"),
        (
            "an unknown style",
            lambda: progress.progress_bar(5, "x", style="dots").__enter__(),
            "style & dots",
        ),
    ],
    "rl.explore": [
        ("an unknown choice", lambda: explore(widht=3), "widht & width"),
        ("an unknown set", lambda: explore(dataset="mnits"), "dataset & mnits & mnist"),
        (
            "an unknown architecture",
            lambda: explore(architecture="resnet"),
            "architecture & resnet & resnet8",
        ),
        ("a negative width", lambda: explore(width=-1), "width & -1"),
        ("a width of NaN", lambda: explore(width=NAN), "width & nan"),
        ("a depth of text", lambda: explore(depth="2"), "depth & '2'"),
        ("a depth of VGG", lambda: explore(architecture="vgg16", depth=3), "fixed depth & depth=3"),
        ("epochs of floats", lambda: explore(num_epochs=2.5), "num_epochs & 2.5"),
        ("one seed", lambda: explore(seeds=0), "seeds & 0"),
        ("three seeds", lambda: explore(seeds=(0, 1, 2)), "seeds & 0, 1, 2"),
        ("the same seed twice", lambda: explore(seeds=(1, 1)), "seeds & 1, 1"),
        ("negative seeds", lambda: explore(seeds=(0, -1)), "seeds & -1"),
        ("one file", lambda: explore(files=("a.safetensors",)), "files & a.safetensors"),
        ("files that are not there", lambda: explore(files=("a", "b")), "a"),
        ("a text for files", lambda: explore(files="ab"), "files & ab"),
        ("an unknown matcher", lambda: explore(matchers=("weigth",)), "matchers & weigth & weight"),
        ("a text for matchers", lambda: explore(matchers="weight"), "matchers & weight"),
        ("no matcher", lambda: explore(matchers=()), r"matchers & \[\]"),
        ("a matcher twice", lambda: explore(matchers=("weight", "weight")), "matchers & weight"),
        ("an unknown effort", lambda: explore(effort="hard"), "effort & hard & usual"),
        ("one lambda", lambda: explore(num_lambdas=1), "num_lambdas & 1"),
        ("a huge number", lambda: explore(num_lambdas=HUGE), "num_lambdas & 000"),
        ("parameters alone", lambda: explore(params=(A, B)), "apply_fn & data"),
        ("one network", lambda: explore_own(params=A), "params & dict"),
        ("three networks", lambda: explore_own(params=(A, B, C)), "params & two trees"),
        ("no data", lambda: explore_own(data="mnist"), "data & mnist"),
        ("no function", lambda: explore_own(apply_fn="mlp"), "apply_fn & mlp"),
        ("other widths", lambda: explore_own(params=(A, WIDER)), "layers/0 & 7"),
        ("interactive as text", lambda: explore(interactive="no"), "interactive & 'no'"),
    ],
    "Exploration": [
        ("an unknown method", lambda: found().merged("weigth", 0.5), "weigth & weight"),
        ("lambda of text", lambda: found().merged("weight", "half"), "lam & half"),
        ("lambda of NaN", lambda: found().walk("weight", NAN), "lam & nan"),
        ("an unknown group", lambda: found().unit_matrices("weight", "P_9"), "P_9 & P_0"),
        ("a contour of none", lambda: found().contour("greedy"), "greedy & weight"),
        ("code of none", lambda: found().as_code("greedy", 0.5), "greedy & weight"),
        ("layers of none", lambda: found().layers(None), "method & None"),
        ("a pair of no choices", lambda: exploration.explore_pair("mnist"), "choices & mnist"),
        ("a pair of none", lambda: exploration.explore_pair(choice(), pair=(A, B)), "pair & tuple"),
        ("loaded of no choices", lambda: exploration.load_pair(None), "choices & None"),
    ],
    "runner": [
        ("a parameter of nothing", lambda: runner.parse_parameter("=3"), "name & =3"),
        ("no text", lambda: runner.parse_parameter(3), "parameter|text & 3"),
        ("twice", lambda: runner.parse_parameters(["width=3", "width=4"]), "width & twice|3"),
        ("one text", lambda: runner.parse_parameters("width=3"), "texts|parameters & width=3"),
        ("a notebook that is none", lambda: runner.notebook_sequence(["99"]), "99"),
        ("a plan of no profile", lambda: runner.plan_run(profile=None), "profile & None"),
        ("a plan of a path", lambda: runner.plan_run(run_name="../x"), r"\.\./x & name"),
        ("a reserved name", lambda: runner.plan_run(run_name="checkpoints"), "checkpoints"),
        ("no jobs", lambda: runner.plan_run(num_jobs=-1), "job & -1"),
        ("a list", lambda: runner.plan_run(parameters=["width=3"]), "parameters & list|width=3"),
        ("an object", lambda: runner.plan_run(parameters={"width": object()}), "width & object"),
        ("publishing nothing", lambda: runner.publish("nothing"), "nothing"),
        ("publishing a path", lambda: runner.publish("../x"), r"\.\./x"),
    ],
    "environment": [
        ("runs in a file", lambda: run_in(str(written("x"))), "REBASIN_RUNS & file"),
        ("below a file", lambda: run_in(str(written("x")) + "/runs"), "REBASIN_RUNS & file"),
        ("a run's name too long", lambda: run_in("r" * 5000), "REBASIN_RUNS"),
        ("data that is not there", lambda: data_in("nowhere"), "REBASIN_DATA & nowhere"),
        ("data in a file", lambda: data_in(str(written("x"))), "REBASIN_DATA & file"),
        (
            "another platform",
            lambda: in_environment(open_run, JAX_PLATFORMS="tpu"),
            "JAX_PLATFORMS & tpu & cpu",
        ),
        (
            "no platform",
            lambda: in_environment(open_run, JAX_PLATFORMS="gpu0"),
            "JAX_PLATFORMS & gpu0",
        ),
    ],
}

# Arguments, and patterns of the paragraph that follows "Error: ".
COMMANDS = {
    "rebasin-lab": [
        (["reproduc"], "reproduc & reproduce"),
        (["--profile", "quick"], "--profile"),
        ([""], "''|command"),
    ],
    "rebasin-lab reproduce": [
        (["--profile", "quik"], "profile & quik & quick"),
        (["--profile", ""], "profile & ''"),
        (["--profile"], "--profile"),
        (["--porfile", "quick"], "--porfile & --profile"),
        (["quick"], "quick"),
        (["--only", "99"], "99"),
        (["--only", ""], "''"),
        (["--only", "../04"], r"\.\./04"),
        (["--run", "../x"], r"\.\./x"),
        (["--run", "records"], "records"),
        (["--run", ""], "''|name"),
        (["--run", "a b"], "a b"),
        (["--run", "x" * 300], "xxx"),
        (["--run", ".."], r"\.\."),
        (["--figures", ""], "--figures|figures & ''|empty"),
        (["--jobs", "0"], "job & 0"),
        (["--jobs", "two"], "--jobs & two"),
        (["--jobs", "1.5"], "--jobs & 1.5"),
        (["--jobs", str(10**6)], "job & 1,?000,?000"),
        (["--set", "width"], "width & name=value"),
        (["--set", "=3"], "=3"),
        (["--set", ""], "name=value & ''"),
        (["--set", "widht=3"], "widht & width"),
        (["--set", "width=3", "--set", "width=4"], "width & twice|3"),
        (["--set", "profile=laptop"], "profile & --profile"),
        (["--set", "name=mine"], "name"),
        (["--set", "run_dir=x"], "run_dir & --run"),
        (["--set", "dataset=mnits"], "mnits & Did you mean 'mnist'"),
        (["--set", "width="], "width & None"),
        (["--set", "width={a: 1}"], "width & a"),
        (["--set", "width=[1"], "width"),
        (["--set", "width=&a [*a]"], "width"),
        (["--set", "width=!!python/object:os.system x"], "width"),
        (["--set", "width=2020-01-01"], "width & date"),
        *[
            (["--set", f"{field}={value}"], f"{field} & {shown}")
            for field, value, shown in [
                ("dataset", "3", "3"),
                ("width", "true", "True|true"),
                ("width", ".inf", "inf"),
                ("width", "1e3", "1e3|1000"),
                ("width", "-1", "-1"),
                ("num_hidden_layers", "'3'", "'3'"),
                ("batch_size", "null", "None|null"),
                ("num_epochs", "1.5", "1.5"),
                ("learning_rate", "fast", "fast"),
                ("learning_rate", ".nan", "nan"),
                ("num_pairs", "1000000000000", "000"),
                ("num_lambdas", "1", "1"),
                ("num_coarse_lambdas", "[3]", "3"),
                ("num_coarse_images", "-1", "-1"),
                ("contour_resolution", "yes", "True|yes"),
                ("contour_images", "all", "all"),
                ("snapshot_epochs", "[-1]", "-1"),
                ("mlp_widths", "[16, wide]", "wide"),
                ("num_merged", "1", "1"),
                ("num_merged_epochs", "-2", "-2"),
                ("num_halves", "few", "few"),
                ("num_normed_pairs", "99", "99"),
                ("minorities", "[2.0]", "2"),
                ("seed", "abc", "abc"),
                ("seed", ".nan", "nan"),
                ("seed", "-1", "-1"),
                ("trial", "'false'", "false"),
            ]
        ],
    ],
    "rebasin-lab figures": [
        ([], "--to"),
        (["--to", ""], "--to & ''|empty"),
        (["--to", "out", "--format", "gif"], "gif & svg"),
        (["--to", "out", "--format", ""], "format"),
        (["--to", "out", "--width", "triple"], "triple & double"),
        (["--to", "out", "--only", "99"], "99"),
        (["--to", "out", "--from", "nowhere"], "nowhere"),
        (["--to", "file", "--only", "03"], "file"),
        (["--to", "out", "--page", "file"], "--page & --gallery"),
        (["--to", "nowhere", "--gallery"], "nowhere"),
    ],
    "rebasin-lab publish": [
        (["--run", "nothing"], "nothing"),
        (["--run", "../x"], r"\.\./x"),
        (["--run", ""], "''|name"),
        (["quick"], "quick"),
    ],
    "rebasin-lab site": [
        (["--run", "nothing"], "nothing"),
        (["--run", "../x"], r"\.\./x"),
        (["--to", "file"], "file"),
        (["--to", ""], "--to & ''|empty"),
    ],
    "rebasin-lab redraw": [(["04"], "04"), (["--only", "04"], "--only")],
    "gpu_check": [
        (["--tiny", "--seconds", "nan"], "--seconds & nan"),
        (["--tiny", "--seconds", "-1"], "--seconds & -1"),
        (["--tiny", "--seconds", "soon"], "--seconds & soon"),
        (["--tiny", "--out", "file"], "--out & file"),
        (["--tiny", "--measure", "speeds"], "--measure & speeds"),
        (["--tny"], "--tny"),
    ],
}

LIBRARY = str(Path(rl.__file__).parent)


@contextlib.contextmanager
def limited(seconds):
    """Ends what takes longer."""

    def end(*_):
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch, tmp_path, without_type_checks):
    monkeypatch.chdir(tmp_path)


def check_text(text, patterns):
    assert "\n" not in text, text
    assert 15 < len(text) < 1500, text
    assert all(re.search(each, text) for each in patterns.split(" & ")), text


@pytest.mark.parametrize(
    ("call", "patterns"),
    [
        pytest.param(call, patterns, id=f"{entry}: {wrong}")
        for entry, rows in ROWS.items()
        for wrong, call, patterns in rows
    ],
)
def test_a_mistake_is_told_in_a_paragraph(call, patterns):
    with pytest.raises((ValueError, FileNotFoundError)) as raised, limited(SECONDS):
        call()
    innermost = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert innermost.filename.startswith(LIBRARY), (innermost, raised.value)
    check_text(str(raised.value), patterns)


@pytest.mark.parametrize(
    ("command", "arguments", "patterns"),
    [
        pytest.param(command, arguments, patterns, id=f"{command} {' '.join(arguments)[:60]}")
        for command, rows in COMMANDS.items()
        for arguments, patterns in rows
    ],
)
def test_a_mistake_in_a_command_is_told_in_a_paragraph(
    command, arguments, patterns, capsys, monkeypatch
):
    Path("file").write_text("x")
    monkeypatch.setattr(runner, "reproduce", lambda plan, **how: 0)  # no run, where all is well
    with limited(SECONDS):
        if command == "gpu_check":
            with pytest.raises(SystemExit) as ended:
                gpu_check.main(arguments)
            code, output = ended.value.code, capsys.readouterr().err
        else:
            result = CliRunner().invoke(cli.main, [*command.split()[1:], *arguments])
            assert isinstance(result.exception, SystemExit), result.exception
            code, output = result.exit_code, result.output
    assert code in (1, 2)
    assert "Traceback" not in output
    _, _, text = output.rpartition("rror: ")
    check_text(text.strip(), patterns)
