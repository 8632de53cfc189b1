"""Every notebook of the sequence, opened and run from the menu, and each of its dials turned."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

import rebasin_lab as rl
from browser.lab_page import AS_THEY_ARE, QUICKSTART, SIZES, THEMES, record
from rebasin_lab.lab import runner
from rebasin_lab.paper import counterexample, foreign_pair, sections, store
from rebasin_lab.paper.sections import file_pair
from rebasin_lab.paper.sections.study import params_of

# Notebooks without a dial: their lesson is a table to read.
STILL = ("04_three_methods",)
NOTEBOOKS = [path.stem for path in runner.notebook_sequence()]
TRIALS = [name for name in NOTEBOOKS if SIZES == "trial" and name not in AS_THEY_ARE]


def profile(notebook):
    return rl.get_profile("quick", trial=notebook in TRIALS)


def networks(notebook):
    """What the notebook has trained, from the store."""
    wanted = sections.experiments(notebook, profile(notebook))
    with pytest.MonkeyPatch.context() as patch:
        if notebook not in TRIALS:  # networks that were trained with other flags are others
            patch.delenv("XLA_FLAGS", raising=False)
        assert all(map(store.is_stored, wanted))
        return [rl.trained(each, style="silent") for each in wanted]


def evaluated(network, data):
    """Loss and accuracy on the test images."""
    test = jnp.asarray(data.test_images), jnp.asarray(data.test_labels)
    return rl.evaluate(network.model.apply, network.params, *test)


def saved_numbers(lab, notebook, figure):
    """The numbers of a figure that the notebook saved as it ran."""
    path = lab.runs / "interactive" / "figures" / notebook / f"{figure}.json"
    return json.loads(path.read_text())["numbers"]


def numbers_in(text):
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", text)]


# What the library says of where the dials stand, after each has been turned.


def check_quickstart(lab, panels):
    sketched, panel = panels
    naive = saved_numbers(lab, "00_quickstart", "interpolation")["curves"]["naive"][0]
    (barrier,) = numbers_in(sketched.alt())
    height = max(naive["train_loss"]) - np.mean([naive["train_loss"][0], naive["train_loss"][-1]])
    assert barrier == pytest.approx(height, abs=1e-3)
    a, b = networks("00_quickstart")[:2]
    data = a.experiment.load_dataset()
    apply_fn = a.model.apply
    images = jnp.asarray(data.test_images)
    middle = np.asarray(apply_fn(rl.lerp(0.5, a.params, b.params), images[:200]))
    shown = np.argsort(np.ptp(middle, axis=-1))[:10]
    lam, accuracy, naive, total, *_ = numbers_in(panel.alt())
    assert total == 10
    params = rl.lerp(lam, a.params, b.params)
    logits = apply_fn(params, images[shown])
    assert naive == (np.asarray(logits).argmax(-1) == data.test_labels[shown]).sum()
    measured = rl.evaluate(apply_fn, params, images, jnp.asarray(data.test_labels))
    assert accuracy == pytest.approx(100 * measured.accuracy, abs=0.06)


def check_symmetries(lab, panels):
    swap, group = panels
    swap.dropdown("swapped in").choose("without the next layer")
    swap.slider("and unit").press("End")
    swap.wait_for_alt("and 9 swapped, without the next layer")
    change = numbers_in(swap.alt())[2]
    assert change > 1e-3  # of all three lines it is rounding
    data = networks("01_symmetries")[0].experiment.load_dataset()
    for network in ("resnet20", "vgg16"):
        group.changes_when(lambda name=network: group.dropdown("network").choose(name))
        model = rl.build_model(network, dataset=data)
        spec = rl.infer_permutation_spec(model.apply, model.shapes, data.test_images[:1])
        count = f"{network}: {len(spec.permutations)} permutations"
        assert count in group.root.inner_text()  # the change that was turned to pins none


def check_line_and_barrier(lab, panels):
    (panel,) = panels
    saved = saved_numbers(lab, "02_line_and_barrier", "interpolation")["curves"]
    for place, seeds in enumerate(panel.dropdown("seeds").options):
        panel.dropdown("seeds").choose(seeds)
        panel.wait_for_alt(f"^Seeds {seeds}: train barriers")
        shown = numbers_in(panel.alt().partition("naive")[2].replace("Algorithm 1", ""))
        losses = [saved[name][place]["train_loss"] for name in ("naive", "Algorithm 1")]
        expected = [max(one) - (one[0] + one[-1]) / 2 for one in losses]
        assert shown == pytest.approx(expected, abs=1e-3)


def check_weight_matching(lab, panels):
    (panel,) = panels
    slider = panel.slider("visit")
    panel.changes_when(lambda: slider.press("End"))
    *_, home, units, before, after = numbers_in(panel.alt())
    assert home == units  # the planted permutation is undone
    assert after == before  # the last visit changes nothing
    panel.changes_when(lambda: slider.press("Home"))
    reached = None
    for _ in range(3):
        *_, before, after = numbers_in(panel.alt())
        assert after >= before
        assert reached in (None, before)
        reached = after
        panel.changes_when(lambda: slider.press("ArrowRight"))


def check_counterexample(lab, panels):
    panel, changed = panels
    for name in panel.dropdown("permutation").options:
        panel.dropdown("permutation").choose(name)
        panel.wait_for_alt(f"^{name}, lambda")
        lam, wrong = numbers_in(panel.alt().removeprefix(name))
        exact = counterexample.closed_form_error(name, np.array([lam]))[0]
        assert wrong == pytest.approx(100 * exact, abs=1.0)  # the panel counts pixels
    changed.dropdown("weight").choose("read-out, unit 1")
    changed.slider("value").press("Home")
    changed.wait_for_alt("^read-out, unit 1 is -2:")
    *_, own, least = numbers_in(changed.alt())
    assert own == 0  # a read-out that is twice as large has the same sign
    assert least == pytest.approx(0.25, abs=0.02)


def check_onset(lab, panels):
    (panel,) = panels
    first, second, epoch, naive, *_ = numbers_in(panel.alt())
    found = {each.experiment.seed: each for each in networks("06_onset")}
    a, b = found[int(first)], found[int(second)]
    sizes = profile("06_onset")
    data = sizes.coarse(a.experiment.load_dataset())
    ends = (params_of(network, int(epoch)) for network in (a, b))
    curve = rl.interpolation_curve(a.model.apply, *ends, data, num_lambdas=sizes.num_coarse_lambdas)
    assert naive == pytest.approx(rl.loss_barrier(curve, split="train"), abs=1e-4)


def check_width(lab, panels):
    sketched, panel = panels
    by_width = sketched.alt().partition("by width:")[2].split("; ")
    saved = saved_numbers(lab, "07_width", "mlp_widths")
    assert len(by_width) == len(saved["widths"])
    matched = numbers_in(by_width[-1].partition("matched")[2])[0]
    assert matched == pytest.approx(np.mean(saved["barriers"]["weight"][-1]), abs=1e-3)
    width, naive, *_ = numbers_in(panel.alt())
    assert width == numbers_in(panel.slider("width").text)[0]
    pairs = {}
    for each in networks("07_width"):
        if dict(each.experiment.options)["width"] == width:
            pairs[each.experiment.seed] = each
    sizes = profile("07_width")
    data = sizes.coarse(pairs[0].experiment.load_dataset())
    barriers = [
        rl.loss_barrier(
            rl.interpolation_curve(
                pairs[seed].model.apply,
                pairs[seed].params,
                pairs[seed + 1].params,
                data,
                num_lambdas=sizes.num_coarse_lambdas,
            ),
            split="train",
        )
        for seed in range(0, len(pairs), 2)
    ]
    assert naive == pytest.approx(np.mean(barriers), abs=1e-3)


def check_split(lab, panels):
    line, minorities = panels
    network = networks("10_split_data")[0]
    data = network.experiment.load_dataset()
    own = evaluated(network, data)
    line.slider("λ").press("Home")
    line.slider("temperature").press("End")
    line.wait_for_alt("λ = 0.0, temperature 4")
    _, _, accuracy, *_ = numbers_in(line.alt().partition("temperature")[2])
    assert accuracy == pytest.approx(100 * own.accuracy, abs=0.06)  # whatever the temperature
    panel_accuracy = numbers_in(minorities.alt())
    assert all(0 <= value <= 100 for value in panel_accuracy)


def check_merge_many(lab, panels):
    (panel,) = panels
    panel.slider("networks").press("Home")
    panel.dropdown("metric").choose("test loss (nats)")
    panel.wait_for_alt(r"^2 networks, test loss \(nats\)")
    seen = [each for each in networks("11_merging_many") if each.experiment.view.part != "all"][:2]
    data = seen[0].experiment.load_dataset()
    mean = dataclasses.replace(seen[0], params=rl.average([each.params for each in seen]))
    single, naive, _, _ = numbers_in(panel.alt().partition(":")[2])
    assert single == pytest.approx(np.mean([evaluated(each, data).loss for each in seen]), rel=5e-3)
    assert naive == pytest.approx(evaluated(mean, data).loss, rel=5e-3)


def check_failures(lab, panels):
    (panel,) = panels
    saved = saved_numbers(lab, "08_failures", "recipes")
    for place, recipe in enumerate(saved["recipes"]):
        panel.dropdown("recipe").choose(recipe)
        panel.wait_for_alt(f"^{re.escape(recipe)}: train barriers")
        naive = numbers_in(panel.alt().partition("naive")[2])[0]
        expected = np.mean(saved["barriers"]["naive"][place])
        assert naive == pytest.approx(expected, abs=1e-3)


def check_normalisation(lab, panels):
    (panel,) = panels
    panel.dropdown("network").choose("BatchNorm")
    panel.wait_for_alt("^BatchNorm at")
    lam, *losses = numbers_in(panel.alt().replace("algorithm_1", ""))
    saved = saved_numbers(lab, "09_normalisation", "mended_lines")
    index = int(np.argmin(np.abs(np.subtract(saved["lambdas"], lam))))
    (panel_of_losses,) = [one for one in saved["panels"] if one["title"] == "Loss"]
    of_first_pair = [line["values"][0][index] for line in panel_of_losses["lines"]]
    assert losses == pytest.approx(of_first_pair, abs=0.006)


def check_own_networks(lab, panels):
    (panel,) = panels
    panel.slider("size").press("Home")
    panel.wait_for_alt("^Size 1:")
    size, accuracy, _ = numbers_in(panel.alt())
    a, b = (foreign_pair.as_torch(each.params) for each in networks("12_networks_of_your_own"))
    data = networks("12_networks_of_your_own")[0].experiment.load_dataset()
    images = data.subset(np.arange(min(file_pair.NUM_IMAGES, len(data.train_labels))))
    spec = rl.infer_permutation_spec(foreign_pair.ours, a, data.test_images[:1])
    seen = {"apply_fn": foreign_pair.ours, "data": images, "where": "summed"}
    found = rl.match("activation", spec, a, b, **seen).permutation
    b = rl.apply_permutation(spec, found, b)
    merged = rl.merging.least_squares(
        foreign_pair.ours, [a, b], images, size=size, batch_size=file_pair.BATCH_SIZE
    )
    test = jnp.asarray(data.test_images), jnp.asarray(data.test_labels)
    measured = rl.evaluate(foreign_pair.ours, merged.params, *test)
    assert accuracy == pytest.approx(100 * measured.accuracy, abs=0.3)


CHECKS = {
    "00_quickstart": check_quickstart,
    "01_symmetries": check_symmetries,
    "02_line_and_barrier": check_line_and_barrier,
    "03_weight_matching": check_weight_matching,
    "05_counterexample": check_counterexample,
    "06_onset": check_onset,
    "07_width": check_width,
    "10_split_data": check_split,
    "11_merging_many": check_merge_many,
    "08_failures": check_failures,
    "09_normalisation": check_normalisation,
    "12_networks_of_your_own": check_own_networks,
}


def milliseconds_of(page, panel):
    """From each of 20 keys on each dial to the paint: its median and its 95th percentile."""
    found = {}
    page.start_stopwatch(panel.root.locator("figure"))
    for control in [*panel.sliders(), *panel.dropdowns()]:
        before = len(page.times())
        for move in range(20):
            down = move % 4 < 2  # two stops on, two back: away from either end of two
            control.handle.press("ArrowRight" if down else "ArrowLeft")
            panel.shown()
        times = page.times()[before:]
        name = control.root.get_attribute("data-name")
        found[name] = (
            [len(times), *np.percentile(times, [50, 95]).round().tolist()] if times else []
        )
    return found


def turn_and_check(notebook, lab, page):
    """Every dial of a notebook that has run: the picture follows, and is what the library says."""
    assert page.page.locator(".jp-OutputArea-output figure img[alt]").count() >= 1
    panels = page.panels()
    assert bool(panels) == (notebook not in STILL)
    for number, panel in enumerate(panels, 1):
        panel.skip_prediction()
        # The last one first: in 01 it is what makes a difference for the network that is on view.
        for control in reversed([*panel.sliders(), *panel.dropdowns()]):
            if control.num_stops > 1:
                panel.changes_when(control.turn)
        name = f"{notebook}-{number}" if len(panels) > 1 else notebook
        page.photograph(panel, name, THEMES[-1:] if SIZES == "trial" else THEMES)
    if notebook == QUICKSTART and SIZES == "quick":
        page.photograph_window(panels[-1], notebook)
    if SIZES == "quick":
        record(f"milliseconds-{notebook}", [milliseconds_of(page, each) for each in panels])
    if panels:
        CHECKS[notebook](lab, panels)
    page.assert_calm()


def use(notebook, lab, page):
    """Open a notebook, run it, and turn its dials."""
    page.open(f"{notebook}.ipynb")
    page.run_all()
    assert page.page.locator(".widget-hprogress:visible").count() == 0  # bars go with their work
    turn_and_check(notebook, lab, page)


@pytest.mark.parametrize("notebook", NOTEBOOKS if SIZES == "quick" else TRIALS)
def test_dials_of(notebook, lab, page):
    use(notebook, lab, page)


def test_every_notebook_with_dials_is_held_against_the_library():
    assert CHECKS.keys() == {*NOTEBOOKS} - {*STILL}
