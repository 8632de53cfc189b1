"""Sections 3.1 to 3.3 at tiny sizes, without a notebook: weight matching, and three methods."""

import dataclasses
import itertools
import re

import nbformat
import numpy as np
import pytest

import rebasin_lab as rl
from paper.test_sections import check_record, study_of
from rebasin_lab import paths
from rebasin_lab.lab import plots
from rebasin_lab.paper.sections import (
    every_matcher,
    evidence,
    planted,
    three_methods,
    units,
    weight_matching,
)


@pytest.fixture(scope="module")
def study():
    return study_of(weight_matching)


@pytest.fixture(scope="module")
def mlps(study):
    return study.train("MLP")


def lesson():
    """Algorithm 1 as the notebook has it."""
    notebook = paths.notebooks_dir() / "03_weight_matching.ipynb"
    (source,) = (
        cell.source
        for cell in nbformat.read(notebook, as_version=4).cells
        if "lesson" in cell.metadata.get("tags", ())
    )
    names = {"np": np, "rl": rl, "section": weight_matching}
    exec(source, names)
    return names["algorithm_1"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_algorithm_1_of_the_notebook_is_the_librarys(study, mlps, seed):
    toy = weight_matching.toy(study, mlps)
    visits = lesson()(toy.spec, toy.a, toy.b, seed)
    climb = weight_matching.climb(toy, visits, seed=seed)
    assert climb.objective()[-1] == pytest.approx(climb.library, rel=1e-4)
    assert "ends at the same inner product" in climb.reading()
    assert min(np.diff(climb.objective())) >= 0


def test_a_planted_toy_is_undone_and_its_dial_says_so(study, mlps):
    toy = weight_matching.toy(study, mlps)
    climb = weight_matching.climb(toy, lesson()(toy.spec, toy.a, toy.b, seed=1), seed=1)
    # The reference: the copy is A again, bit by bit.
    last = climb.visits[-1].b
    assert all(np.array_equal(last[path], leaf) for path, leaf in toy.a.items())
    first, *_, end = climb.num_home()
    assert first == {name: int((o == np.arange(len(o))).sum()) for name, o in toy.planted.items()}
    assert end == {name: len(order) for name, order in toy.planted.items()}
    assert "every unit is back" in climb.reading()
    for visit in range(1, len(climb.visits) + 1):
        figure = climb.at(visit)
        plots.checked(figure.plot, figure.numbers)
        assert figure.alt.endswith(".")
    assert figure.title.endswith(
        f"{units.NUM_UNITS} of {units.NUM_UNITS} units are in their places"
    )


def test_a_visit_that_came_too_early_is_named(study, mlps, monkeypatch):
    toy = weight_matching.toy(study, mlps)
    climb = weight_matching.climb(toy, lesson()(toy.spec, toy.a, toy.b, seed=1), seed=1)
    names, last = [visit.name for visit in climb.visits], len(climb.visits)
    whole = dict.fromkeys(climb.layers, units.NUM_UNITS)
    early = whole | {names[1]: 3}
    for homes, said in (
        ([whole] * (last + 1), "the first visit to each layer put all"),
        ([early] * last + [whole], "Visit 2, to layer"),
        ([early] * last + [whole], "put 3 of 12 units in their places; later visits put all"),
        ([early] * (last + 1), "none put all"),
    ):
        monkeypatch.setattr(units.Climb, "num_home", lambda self, homes=homes: homes)
        assert said in climb.reading()


def test_titles_say_if_partners_stand_out(study, mlps):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (20, 20))
    assert units.standing_out(noise + np.eye(20)) == "stand out by 0.94"
    assert re.fullmatch(r"do not stand out \(-?0\.0\d*\)", units.standing_out(noise))
    images = {"B as it came": noise, "layers beside it lined up": noise + np.eye(20)}
    (figure,) = units.Neighbours([*mlps.values()], images).figures()
    assert re.search("came partners do not stand out .* they stand out by 0.94", figure.title)
    sight = evidence.Sight(
        [*mlps.values()], {"weight": noise + np.eye(20), "activation": noise}, 0.0
    )
    (figure,) = sight.figures()
    assert re.search("stand out by 0.94 in weights; .* they do not stand out", figure.title)


def test_planted_permutations_that_are_not_found_are_counted():
    half, whole = planted.Attempt(0.5, 2), planted.Attempt(1.0, 4)
    attempts = {
        (subject, "exact", method): [
            whole,
            half if (subject, method) == ("vit", "weight") else whole,
        ]
        for subject in planted.SUBJECTS
        for method in planted.METHODS
    }
    reading = planted.Recovery(attempts).reading()
    assert "trained MLPs: Algorithm 1 undoes 2 of 2, and ends after 4 sweeps" in reading
    assert "ours undoes 1 of 2, and ends after 3 (2 to 4) sweeps" in reading


def test_an_assignment_by_similarity_is_the_best_of_all_orders(study, mlps):
    toy = weight_matching.toy(study, mlps)
    name = list(toy.spec.permutations)[1]
    few = 4
    seen = weight_matching.similarity(toy.spec, toy.a, toy.b, name)[:few, :few]
    totals = [seen[np.arange(few), list(o)].sum() for o in itertools.permutations(range(few))]
    best = rl.matching.solve_assignment(seen)
    assert seen[np.arange(few), best].sum() == pytest.approx(max(totals))


def test_weight_matching_measures_starts_and_planted_permutations(study, mlps):
    check_record(weight_matching.neighbours(study, mlps), weight_matching)
    starts = weight_matching.starts(study, mlps)
    check_record(starts, weight_matching)
    assert starts.left("naive") == [100]
    assert len(str(starts.table()).splitlines()) == 6
    assert "never fell" in starts.reading()
    planted = weight_matching.planted(study, mlps)
    check_record(planted, weight_matching)
    assert len(str(planted.table()).splitlines()) == 13
    assert planted.whole("mlp", "exact", "weight").all()
    assert not planted.whole("mlp", "exact", "random").any()
    measured = starts.claims().keys() | planted.claims().keys()
    tested = {claim.id for claim in weight_matching.CLAIMS if not claim.untestable}
    assert measured == tested


def test_three_methods_are_compared_beside_controls():
    study = study_of(three_methods)
    mlps = study.train("MLP")
    sight, partners = three_methods.sight(study, mlps), three_methods.partners(study, mlps)
    check_record(sight, three_methods)
    assert sight.change < 1e-4
    assert len(str(partners.table()).splitlines()) == 6
    assert "random order" in partners.reading()
    estimates = three_methods.estimate(study, mlps)
    check_record(estimates, three_methods)
    assert len(str(estimates.table()).splitlines()) == 3
    compared = three_methods.compare(study, mlps, estimates)
    check_record(compared, three_methods)
    assert {"naive", "random"} < set(compared.methods)
    assert len(str(compared.table()).splitlines()) == 1 + len(compared.methods)
    assert re.search(r"comes\s+nearest", compared.reading())
    assert "A and B themselves" in str(compared.confidence())
    # The paper's weight matching decides, not the library's.
    one = {name: each.train_barrier for name, each in compared.compared[0, 1].items()}
    # The lines in the picture are those of the first pair, and so is what its title says.
    worse = dict.fromkeys(compared.methods, compared.compared[0, 1]["naive"])
    pairs = {**compared.compared, (1, 0): worse}
    title = next(iter(dataclasses.replace(compared, compared=pairs).figures())).title
    for end in (min, max):
        share = end(one[name] for name in every_matcher.THREE) / one["naive"]
        assert f"{100 * share:.1f} %" in title
    best = min(one["activation"], one["algorithm_1"])
    assert compared.claims()["section3-ste-best"] == pytest.approx(one["straight_through"] / best)


def test_a_profile_without_residual_networks_has_no_record_of_them():
    study = study_of(three_methods)
    assert three_methods.residual(study) == three_methods.times(study) == []


@pytest.mark.slow
def test_residual_networks_are_matched_by_every_matcher_and_large_ones_timed():
    study = study_of(three_methods, profile="laptop")
    (residual,) = three_methods.residual(study)
    check_record(residual, three_methods)
    assert set(residual.methods) == {"naive", "normalized", *rl.MATCHERS}
    assert len(str(residual.table()).splitlines()) == 1 + len(residual.methods)
    (times,) = three_methods.times(study)
    check_record(times, three_methods)
    assert set(times.claims()) == {"a5-resnet50-seconds", "a5-resnet20-seconds"}
    assert len(str(times.table()).splitlines()) == 5
