"""The section on failures (A.1) at tiny sizes: recipes of MLPs, VGGs on MNIST, ConvNeXts."""

import math

import numpy as np
import pytest

from paper.test_sections import check_record, study_of
from rebasin_lab.lab import plots
from rebasin_lab.paper import profiles
from rebasin_lab.paper.sections import convnext, failures, mlp_recipes


def test_recipes_are_compared_pair_by_pair_with_a_random_order_as_control():
    study = study_of(failures, num_pairs=2)
    recipes = failures.compare_recipes(study)
    check_record(recipes, failures)
    assert recipes.each == list(dict.fromkeys(mlp_recipes.recipe_names(study.profile)))
    for name, lines in recipes.lines.items():
        assert [len(lines.barriers(method)) for method in mlp_recipes.METHODS] == [2] * 6
        assert len(recipes.losses(name)) == len(recipes.moved[name]) == 4
        for above, barrier in zip(
            lines.above_chord("algorithm_1"), lines.barriers("algorithm_1"), strict=True
        ):
            assert above <= barrier + 1e-6
        figure = recipes.at(name)
        plots.checked(figure.plot, figure.numbers)
    for table in (recipes.quality(), recipes.table(), recipes.methods()):
        assert len(str(table).splitlines()) == 1 + len(recipes.each)
    # Too thin, too slow and too fast.
    assert [len(measured) for measured in recipes.claims().values()] == [2] * 3
    assert recipes.reading().count("**Too ") == 3
    assert recipes.cause()


@pytest.mark.parametrize(
    ("ratios", "says"),
    [
        ([2.0, 9.0], "matching fails, as the paper says"),
        ([0.3, 0.9], "matching does not fail, it does better"),
        ([0.3, 9.0], "matching fails in 1 of 2 pairs"),
        ([1.1, 1.9], "no failure"),
    ],
)
def test_a_recipe_fails_if_every_pair_does(ratios, says):
    assert mlp_recipes.verdict(ratios) == says


def test_a_recipe_of_a_thin_network_may_be_that_of_another_name():
    names = mlp_recipes.recipe_names(profiles.PROFILES["quick"])
    assert names.thin == names.adam
    paper = mlp_recipes.recipe_names(profiles.PROFILES["paper"])
    assert paper.wide == paper.adam


def test_quick_has_no_vggs_and_reads_those_of_laptop():
    assert failures.compare_vggs(study_of(failures)) == []
    assert "naive" in failures.stored_vggs()


@pytest.mark.slow
def test_vggs_are_compared_with_a_random_order_as_control():
    (vggs,) = failures.compare_vggs(study_of(failures, profile="laptop"))
    check_record(vggs, failures)
    assert len(str(vggs.table()).splitlines()) == 1 + len(failures.VGG_METHODS)
    assert len(vggs.claims()["a1-vgg-mnist"]) == len(vggs.pairs)
    assert "naive" in vggs.reading()


@pytest.mark.parametrize(
    ("matched", "says"),
    [
        (
            {"weight": [0.0, 3.0, 0.0], "activation": [0.0, 4.0, 0.0]},
            "**matching has made things worse**",
        ),
        (
            {"weight": [0.0, 3.0, 0.0], "activation": [0.0, 1.0, 0.0]},
            "1 of 2 matched lines rise higher",
        ),
        (
            dict.fromkeys(["algorithm_1", "weight"], [0.0, 3.0, 0.0]) | {"activation": [0.0, 1.0]},
            "2 of 3 matched lines rise higher",
        ),
        (
            {"algorithm_1": [0.0, 1.0, 0.0], "activation": [0.0, 1.0, 0.0]},
            "no matched line rises higher",
        ),
    ],
)
def test_a_line_that_matching_made_worse_is_called_so(matched, says):
    assert says in failures.reading_of({"naive": [0.0, 2.0, 0.0]} | matched)


@pytest.mark.parametrize("depth_wise", [True, False])
def test_symmetries_of_a_convnext_are_those_of_its_streams_and_hidden_units(depth_wise):
    depths, widths = (1, 2), (4, 6)
    count, num = convnext.symmetries(depth_wise=depth_wise, depths=depths, widths=widths)
    groups = [*widths, *(4 * w for d, w in zip(depths, widths, strict=True) for _ in range(d))]
    if not depth_wise:
        groups += [w for d, w in zip(depths, widths, strict=True) for _ in range(d)]
    assert num == len(groups)
    assert count == pytest.approx(sum(math.lgamma(n + 1) for n in groups) / math.log(10))


def test_the_exercise_is_the_height_above_the_chord():
    for (losses,) in failures.EXERCISE.cases:
        chord = np.interp(np.linspace(0, 1, len(losses)), [0, 1], [losses[0], losses[-1]])
        assert failures.EXERCISE.oracle(losses) == pytest.approx(np.max(losses - chord))
