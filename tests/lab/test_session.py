import dataclasses
import json
from collections.abc import Sequence

import pytest

from rebasin_lab import datasets, paths
from rebasin_lab.lab import figures, session
from rebasin_lab.paper import claims, store
from rebasin_lab.paper.sections.record import Figure, Record


@dataclasses.dataclass(frozen=True)
class OneFigure(Record):
    """A record of one figure."""

    name: str
    networks: Sequence[store.Trained] = ()

    def figures(self):
        return [
            Figure(
                name=self.name,
                plot="objective",
                numbers={"objectives": {"one": [0.0, 1.0]}, "visits_per_sweep": 1},
                title="It climbs",
                caption="Climbing.",
                alt="A line.",
                networks=self.networks,
            )
        ]


@pytest.fixture
def run(monkeypatch, tmp_path, tiny_data):
    """A run of 04 on tiny data, with what it shows kept in `run.shown`."""
    shown = []
    monkeypatch.setattr(session, "display", lambda output, **_: shown.append(output.data))
    monkeypatch.setattr(datasets, "load_dataset", lambda name: tiny_data)
    opened = session.open_run(
        "02_line_and_barrier",
        run_dir=str(tmp_path / "run"),
        interactive=False,
        width=8,
        num_epochs=1,
    )
    return opened, shown


def test_opening_says_what_it_runs_on(run):
    opened, shown = run
    assert opened.profile.width == 8
    assert all(text in shown[0] for text in ("quick", "Tiny", "8 units", "cpu", "jax"))


def test_a_notebook_that_trains_nothing_names_no_data_and_no_networks(run):
    _, shown = run
    session.open_run("05_counterexample", interactive=False)
    assert "quick" in shown[-1]
    assert not any(text in shown[-1] for text in ("Tiny", "units", "parameters"))


def test_a_network_is_trained_once_and_stored(run):
    settings = {"width": 8, "num_epochs": 1, "batch_size": 20, "num_pairs": 1, "num_jobs": 1}
    opened = session.open_run("02_line_and_barrier", interactive=False, **settings)
    assert {each.origin for each in opened.train("MLP").values()} == {"trained"}
    assert {each.origin for each in opened.train("MLP").values()} == {"restored"}


def test_a_group_is_trained_in_as_many_processes_as_allowed(run, monkeypatch):
    opened, _ = run
    swept = []

    def train_all(wanted, **options):
        swept.append((wanted, options))
        return [store.trained(each, style="silent") for each in wanted]

    monkeypatch.setattr(session.train_many, "train_all", train_all)
    opened = session.dataclasses.replace(opened, num_jobs=2)
    found = opened.train("MLP")
    (wanted, options) = swept.pop()
    assert [each.seed for each in wanted] == list(found) == list(opened.profile.seeds)
    assert options["num_jobs"] == 2
    assert wanted == [*opened.trainings["MLP"].values()]


def test_a_group_that_the_profile_does_not_have_is_empty_and_an_unknown_one_refused(run):
    opened, _ = run
    assert opened.train("ResNet") == {}
    with pytest.raises(ValueError, match="Expected a group of networks .*'MLP'.*; got 'mlp'"):
        opened.train("mlp")


def test_a_check_is_kept_for_the_scoreboard(run):
    opened, _ = run
    result = opened.check("fig2-mnist-naive", [0.5, 0.6])
    assert result.status == "not tested: settings changed"
    stored = json.loads(session.claims_file(opened.run_dir, opened.notebook).read_text())
    assert stored == {"fig2-mnist-naive": [0.5, 0.6]}


def test_a_claim_of_another_notebook_is_refused(run):
    opened, _ = run
    with pytest.raises(ValueError, match="'table1-mlp' to be tested in 01_symmetries"):
        opened.check("table1-mlp", 3498.0)


def test_a_table_of_claims_has_the_columns_of_the_scoreboard():
    result = claims.ClaimResult(claims.CLAIMS["fig1-midpoint"], "laptop", (0.25,))
    table = session._claims_table([result], "laptop profile")
    assert all(f">{heading}<" in table for heading in claims.COLUMNS.values())
    assert ">0.25<" in table


def test_a_claim_that_was_forgotten_is_noticed(run):
    opened, _ = run
    with pytest.raises(AssertionError, match="fig2-mnist-naive"):
        opened.show_claims()


def test_a_notebook_without_claims_says_so(run):
    opened, shown = run
    dataclasses.replace(opened, notebook="00_quickstart").show_claims()
    assert "tests no claim" in shown[-1]


def test_a_figure_is_saved_and_shown_with_what_was_run(run):
    opened, shown = run
    opened.show(OneFigure("objective"))
    path = opened.figures_dir / "02_line_and_barrier" / "objective.json"
    record = json.loads(path.read_text())
    assert record["caption"] == "Climbing. [quick profile, changed]"
    assert record["settings"]["width"] == 8
    assert record["dataset"] == figures.describe_dataset(opened.data)
    assert 'alt="A line."' in shown[-1]


def test_a_recipe_is_named_once_whichever_part_of_the_data_was_seen(run):
    opened, shown = run
    halves = [
        opened.profile.experiment(seed=seed)
        .without_snapshots()
        .with_view(part="random half", part_seed=seed)
        for seed in range(2)
    ]
    trained = session.train_many.train_all(halves, num_jobs=1, style="silent")
    opened.show(OneFigure("objective", trained))
    assert shown[-1].count("1 epochs of adam") == 1


@pytest.mark.parametrize(("num_cores", "expected"), [(1, 1), (2, 2), (64, 2)])
def test_two_processes_train_where_there_are_two_cores(run, monkeypatch, num_cores, expected):
    monkeypatch.setattr(session.train_many.os, "cpu_count", lambda: num_cores)
    monkeypatch.setattr(session.train_many.jax, "default_backend", lambda: "cpu")
    assert session.open_run("00_quickstart", interactive=False).num_jobs == expected
    assert session.open_run("00_quickstart", interactive=False, trial=True).num_jobs == 1
    monkeypatch.setattr(session.train_many.jax, "default_backend", lambda: "gpu")
    assert session.train_many.default_num_jobs() == 1


def test_interactive_work_leaves_the_tracked_figures_alone(run, monkeypatch):
    opened = session.open_run("02_line_and_barrier")
    assert paths.figures_dir() not in opened.figures_dir.parents
    assert opened.run_dir == paths.runs_dir() / "interactive"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": True}, "Expected width to be a positive int; got True"),
        ({"num_lambdas": float("nan")}, "Expected num_lambdas to be an odd int"),
        ({"run_dir": str(paths.notebooks_dir())}, "Expected run_dir to be a folder"),
        ({"figures_dir": "/dev/null"}, "Expected figures_dir to be a folder"),
    ],
)
def test_what_cannot_be_opened_is_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        session.open_run("02_line_and_barrier", **{"interactive": False} | options)


@pytest.mark.parametrize("name", ["../02_line_and_barrier", "", "a/b", "/etc/passwd"])
def test_names_of_notebooks_and_figures_are_no_paths(run, name):
    opened, _ = run
    with pytest.raises(ValueError, match="Expected the name of a notebook"):
        session.open_run(name, interactive=False)
    with pytest.raises(ValueError, match="Expected the name of a figure|Expected name of the"):
        opened.show(OneFigure(name))
