"""Why a claim is not reproduced: shown beside that verdict alone, and true of published figures."""

import json
import re

import numpy as np
import pytest

from rebasin_lab import paths
from rebasin_lab.lab import report, session
from rebasin_lab.lab.figure_export import gallery
from rebasin_lab.paper import claims

FAILED = claims.measure("fig2-slerp", "quick", 0.5)
HELD = claims.measure("fig2-slerp", "quick", 0.05)
BECAUSE = "an arc keeps their length"


def published(name):
    return json.loads((paths.figures_dir() / f"{name}.json").read_text())


def test_a_reason_is_that_of_the_profile_and_of_a_failure():
    row = FAILED.as_row()
    assert BECAUSE in claims.why(row, "quick")
    assert claims.why(row, "laptop") == ""  # where it is not known
    assert claims.why(row | {"status": "reproduced"}, "quick") == ""
    assert claims.why(row | {"claim": "of another version"}, "quick") == ""
    assert BECAUSE not in str(row)  # stored scoreboards stay as they are


def in_report(result):
    board = {"profile": {"name": "quick"}, "claims": [result.as_row()]}
    return report.claims_table(board, lambda row: [])


def in_gallery(result, folder):
    page = {"title": "", "profile": {"name": "quick"}, "claims": [result.as_row()]}
    (folder / "scoreboard.json").write_text(json.dumps(page))
    return "\n".join(gallery._scoreboard(gallery._read_board(folder / "scoreboard.json")))


def test_a_reason_stands_on_every_page_beside_a_failure_alone(tmp_path):
    for result, is_shown in ((FAILED, True), (HELD, False)):
        for page in (
            claims.as_text([result], "quick profile"),
            result._repr_html_(),
            session._claims_table([result], "quick profile"),
            in_report(result),
            in_gallery(result, tmp_path),
        ):
            assert (BECAUSE in " ".join(page.split())) == is_shown


@pytest.mark.parametrize("name", [each for each, one in claims.CLAIMS.items() if one.why])
def test_a_reason_is_a_sentence_or_two_for_a_profile_that_tests_the_claim(name):
    claim = claims.CLAIMS[name]
    assert claim.why.keys() <= claim.bounds.keys()
    for text in claim.why.values():
        assert 1 <= len(re.findall(r"[.](?: (?=[A-Z])|$)", text)) <= 2
        assert text.endswith(".")
        assert len(text) < 250


def test_every_failure_of_the_published_run_has_a_reason():
    board = published("scoreboard")
    failed = [row for row in board["claims"] if row["status"] == "not reproduced"]
    assert failed
    assert all(claims.why(row, board["profile"]["name"]) for row in failed)


# What a reason says, in the figure that it is read off.


def means(numbers, method):
    """Of the barriers that a method leaves: at every epoch, width or recipe."""
    barriers = numbers["barriers"][method]
    if isinstance(barriers, dict):
        return np.mean(barriers["train"], axis=0)
    return np.array([np.mean(row) for row in barriers])


def share_falls(numbers):
    share = means(numbers, "algorithm_1") / means(numbers, "naive")
    return (np.diff(share) < 0).all()


def naive_rises_faster(numbers):
    rising = all((np.diff(means(numbers, name)) > 0).all() for name in ("naive", "algorithm_1"))
    return rising and share_falls(numbers)


def of_three(numbers):
    names = ("activation", "algorithm_1", "straight_through")
    return np.array([numbers["methods"][name]["barriers"] for name in names])


def estimator_comes_second(numbers):
    activation, _, estimator = of_three(numbers)
    return (activation < estimator).all() and (
        estimator < numbers["methods"]["weight"]["barriers"]
    ).all()


def lowest_differs(numbers):
    barriers = of_three(numbers)
    near_zero = (barriers < 0.02 * np.array(numbers["naive"])).all()
    return near_zero and len(set(barriers.argmin(axis=0))) > 1


def nothing_to_rise_from(numbers):
    return numbers["epochs"][0] == 0 and all(
        means(numbers, name)[0] < 0.02 for name in numbers["barriers"]
    )


def thin_ones_are_not_matched(numbers):
    naive, matched = means(numbers, "naive"), means(numbers, "weight")
    return (np.diff(naive) > 0).all() and np.mean(matched / naive) > 0.9


def fast_adam_is_fine(numbers):
    by_recipe = dict(zip(numbers["recipes"], means(numbers, "algorithm_1"), strict=True))
    return by_recipe["Adam 0.01, 128 units"] < 1.1 * by_recipe["Adam 0.001, 128 units"]


def learned_parts_are_better(numbers):
    curves = numbers["curves"] if "curves" in numbers else numbers["panels"][0]["curves"]
    whole = curves["Algorithm 1" if "Algorithm 1" in curves else "MergeMany"]
    place = -1 if "MergeMany" in curves else len(whole) // 2
    return curves["learned part"][place] < 0.7 * whole[place]


def starts_worse_and_gains_as_much(numbers):
    losses = numbers["groups"][0]["values"]
    single = np.mean(losses["single"])
    return single > 0.1293 and losses["MergeMany"][0] / single < 0.0727 / 0.1293


def either_is_ahead(board):
    (row,) = (row for row in board["claims"] if row["claim"] == "fig5-ensemble-better")
    return min(row["measured"]) < 0 < max(row["measured"])


REASONS = {
    ("quick", "section3-ste-best"): ("04_three_methods/matchers", estimator_comes_second),
    ("quick", "fig3-init"): ("06_onset/onset", nothing_to_rise_from),
    ("quick", "a1-high-lr-adam"): ("08_failures/recipes", fast_adam_is_fine),
    ("quick", "fig5-merged-below-both"): ("10_split_data/loss_lines", learned_parts_are_better),
    ("quick", "table3-test-loss"): ("11_merging_many/by_number", learned_parts_are_better),
    ("laptop", "fig2-cifar-mlp"): ("laptop/06_onset/onset_cifar10", share_falls),
    ("laptop", "section3-ste-best"): ("laptop/04_three_methods/matchers", lowest_differs),
    ("laptop", "fig3-init"): ("laptop/06_onset/onset", nothing_to_rise_from),
    ("laptop", "fig3-cifar"): ("laptop/06_onset/onset_cifar10", naive_rises_faster),
    ("laptop", "fig4-vgg-half"): ("laptop/07_width/vgg_widths", thin_ones_are_not_matched),
    ("laptop", "a1-high-lr-adam"): ("laptop/08_failures/recipes", fast_adam_is_fine),
    ("laptop", "fig5-ensemble-better"): ("scoreboard", either_is_ahead),
    ("laptop", "table3-below-0727"): (
        "laptop/11_merging_many/table_3",
        starts_worse_and_gains_as_much,
    ),
}


@pytest.mark.parametrize(("profile", "claim"), REASONS)
def test_a_reason_holds_in_the_figure_it_is_read_off(profile, claim):
    assert claims.CLAIMS[claim].why[profile]
    figure, holds = REASONS[profile, claim]
    read = published(figure)
    assert holds(read.get("numbers", read))
