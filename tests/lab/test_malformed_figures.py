"""Figure files that hold no figure, at every command that reads one: an error, never a traceback.

Another figure lies beside each of them: it is drawn, or nothing at all is written.
"""

import copy
import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from rebasin_lab import cli, paths
from rebasin_lab.lab import figures, report
from rebasin_lab.lab.runner import publishing

CURVE = {
    "lambdas": [0.0, 0.5, 1.0],
    "train_loss": [0.1, 0.9, 0.2],
    "test_loss": [0.2, 1.0, 0.3],
    "train_accuracy": [1.0, 0.6, 0.9],
    "test_accuracy": [0.9, 0.5, 0.8],
}
GOOD = {
    "plot": "interpolation",
    "size_inches": [4.0, 2.5],
    "caption": "A caption. [quick profile]",
    "alt": "Two curves.",
    "notebook": "00_test",
    "profile": "quick",
    "dataset": {"name": "tiny", "title": "Tiny", "digest": "abc"},
    "seeds": [0, 1],
    "settings": {"width": 16},
    "trained_with": [],
    "claims": ["fig1-midpoint"],
    "versions": {"jax": "0.10"},
    "numbers": {"curves": {"naive": [CURVE, CURVE], "weight matching": [CURVE]}},
}
OBJECTIVE = {
    "plot": "objective",
    "numbers": {"objectives": {"seeds 0, 1": [0.0, 3.0, 4.0]}, "visits_per_sweep": 2},
}
CONTOUR = {
    "plot": "contour",
    "numbers": {
        "x": [0.0, 0.5, 1.0],
        "y": [0.0, 0.5, 1.0],
        "loss": [[0.1, 2.0, 0.1], [0.5, 3.0, 0.5], [0.2, 0.4, 0.9]],
        "models": {"A": [0.0, 0.0], "B": [1.0, 0.0], "C": [0.1, 0.9]},
        "cap": 2.0,
    },
}
GROUPS = {
    "plot": "symmetry_group",
    "numbers": {
        "rows": [{"name": "embed", "fixed": True}, {"name": "head", "fixed": True}],
        "groups": [
            {
                "name": "P_0",
                "shape": [16],
                "kind": "shared",
                "pinned": False,
                "rows": [0, 1],
                "num_leaves": 3,
            }
        ],
    },
}
SAMPLES = {"plot": "samples", "numbers": {"images": [[[0.1, 0.2]]], "labels": ["3"]}}
ABSENT = object()


def changed(value, *where, base=None):
    """The bytes of a record that has another value in one place."""
    record = copy.deepcopy(GOOD | (base or {}))
    *path, last = where
    inner = record
    for step in path:
        inner = inner[step]
    if value is ABSENT:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(record).encode()


def text_of(record=None):
    return json.dumps(GOOD | (record or {}))


def unreadable(path):
    path.write_text(text_of())
    path.chmod(0)


def in_curve(value, field):
    return changed(value, "numbers", "curves", "naive", 0, field)


# Bytes, or what makes the file.
BAD = {
    # No file
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a folder": lambda path: path.symlink_to("."),
    "not to be read": unreadable,
    # No JSON
    "empty": b"",
    "spaces": b"  \n\n",
    "text": b"a figure",
    "binary": bytes(range(256)) * 40,
    "a picture": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "cut short": text_of()[:200].encode(),
    "cut by a byte": text_of()[:-1].encode(),
    "twice": (text_of() * 2).encode(),
    "a comma too many": text_of().replace("}}}", "},}}").replace("}}", "},}").encode(),
    "single quotes": str(GOOD).encode(),
    "byte order mark": b"\xef\xbb\xbf" + text_of().encode(),
    "UTF-16": text_of().encode("utf-16"),
    "UTF-32": text_of().encode("utf-32"),
    "Latin-1": text_of().replace("Two", "Zw\xf6lf").encode("latin-1"),
    "half a surrogate pair": text_of().replace("Two", r"\ud83d").encode(),
    "a surrogate in UTF-8": text_of().replace("Two", "\ud83d").encode(errors="surrogatepass"),
    "100,000 lists deep": b"[" * 100_000,
    "numbers 100 lists deep": text_of().replace("0.9", "[" * 100 + "]" * 100).encode(),
    "a name twice": text_of().replace('"alt"', '"caption"').encode(),
    "NaN": in_curve([0.1, float("nan"), 0.2], "train_loss"),
    "infinity": in_curve([0.1, float("inf"), 0.2], "train_loss"),
    "too large a number": text_of().replace("0.9", "1e999").encode(),
    "ten thousand digits": text_of().replace("0.9", "9" * 10_000).encode(),
    # No record
    "an object without fields": b"{}",
    "a list": b"[]",
    "null": b"null",
    "a number": b"3",
    "a string": b'"figure"',
    **{f"no {name}": changed(ABSENT, name) for name in GOOD},
    **{f"null as {name}": changed(None, name) for name in GOOD},
    **{f"a number as {name}": changed(3, name) for name in GOOD},
    "an unknown plot": changed("pie", "plot"),
    "a plot of another module": changed("__class__", "plot"),
    "no plot's name": changed("", "plot"),
    "a plot of another shape": changed("contour", "plot"),
    "one side": changed([8.0], "size_inches"),
    "three sides": changed([8.0, 3.0, 1.0], "size_inches"),
    "no height": changed([8.0, 0.0], "size_inches"),
    "a negative width": changed([-8.0, 3.0], "size_inches"),
    "sides in words": changed(["8", "3"], "size_inches"),
    "a mile wide": changed([63360.0, 3.0], "size_inches"),
    "an acre": changed([400.0, 400.0], "size_inches"),
    "sides beyond floats": changed([1e300, 1e300], "size_inches"),
    "true as a side": changed([True, 3.0], "size_inches"),
    "a caption in a list": changed(["A caption."], "caption"),
    "a caption of a megabyte": changed("x" * 10**6, "caption"),
    "claims in a string": changed("fig1-midpoint", "claims"),
    "a claim that is a number": changed([3], "claims"),
    "a claim that is a list": changed([[]], "claims"),
    "a thousand claims": changed(["x"] * 1000, "claims"),
    "seeds in words": changed(["0"], "seeds"),
    "half a seed": changed([0.5], "seeds"),
    "data sets in a list": changed([{}], "dataset"),
    "settings in a list": changed([], "settings"),
    # No numbers of the plot
    "no curves": changed({}, "numbers"),
    "numbers in a list": changed([CURVE], "numbers"),
    "numbers in words": changed("numbers", "numbers"),
    "curves in a list": changed([CURVE], "numbers", "curves"),
    "no method": changed({}, "numbers", "curves"),
    "no pair": changed([], "numbers", "curves", "naive"),
    "a pair alone": changed(CURVE, "numbers", "curves", "naive"),
    "an unknown method": changed([CURVE], "numbers", "curves", "magic"),
    "a curve that is none": changed(3, "numbers", "curves", "naive", 0),
    "a curve without lambdas": changed(ABSENT, "numbers", "curves", "naive", 0, "lambdas"),
    "a curve without losses": changed(ABSENT, "numbers", "curves", "naive", 0, "train_loss"),
    "a loss too few": in_curve([0.1, 0.9], "train_loss"),
    "a loss too many": in_curve([0.1, 0.9, 0.2, 0.3], "train_loss"),
    "no losses": in_curve([], "train_loss"),
    "losses in words": in_curve(["0.1", "0.9", "0.2"], "train_loss"),
    "losses of several kinds": in_curve([0.1, None, "x"], "train_loss"),
    "true losses": in_curve([True, False, True], "train_loss"),
    "losses by name": in_curve({"0": 0.1}, "train_loss"),
    "losses in lists": in_curve([[0.1], [0.9], [0.2]], "train_loss"),
    "huge losses": in_curve([1e300, -1e300, 1e308], "train_loss"),
    "other lambdas in another pair": changed(
        [0.0, 1.0], "numbers", "curves", "naive", 1, "lambdas"
    ),
    "no visits per sweep": changed(0, "numbers", "visits_per_sweep", base=OBJECTIVE),
    "negative visits per sweep": changed(-1, "numbers", "visits_per_sweep", base=OBJECTIVE),
    "half a visit per sweep": changed(0.5, "numbers", "visits_per_sweep", base=OBJECTIVE),
    "a sweep long before": changed(-(10**12), "numbers", "first_visit", base=OBJECTIVE),
    "an objective of no visit": changed({"a": []}, "numbers", "objectives", base=OBJECTIVE),
    "no objective": changed({}, "numbers", "objectives", base=OBJECTIVE),
    "no cap": changed(None, "numbers", "cap", base=CONTOUR),
    "two caps": changed([1.0, 2.0], "numbers", "cap", base=CONTOUR),
    "a cap in words": changed("2", "numbers", "cap", base=CONTOUR),
    "a ragged plane": changed([[0.1], [0.2, 0.3], []], "numbers", "loss", base=CONTOUR),
    "a plane of two rows": changed([[0.1] * 3] * 2, "numbers", "loss", base=CONTOUR),
    "a plane of one point": changed([0.0], "numbers", "x", base=CONTOUR),
    "a model without a place": changed([], "numbers", "models", "B", base=CONTOUR),
    "a model in space": changed([0.0] * 3, "numbers", "models", "B", base=CONTOUR),
    "a model too few": changed(ABSENT, "numbers", "models", "C", base=CONTOUR),
    "a row that is not there": changed([0, 2], "numbers", "groups", 0, "rows", base=GROUPS),
    "a row from behind": changed([-1], "numbers", "groups", 0, "rows", base=GROUPS),
    "a group of no rows": changed([], "numbers", "groups", 0, "rows", base=GROUPS),
    "an unknown kind": changed("lost", "numbers", "groups", 0, "kind", base=GROUPS),
    "a name that is none": changed(None, "numbers", "groups", 0, "name", base=GROUPS),
    "a name of a megabyte": changed("x" * 10**6, "numbers", "rows", 0, "name", base=GROUPS),
    "rows without names": changed([{}], "numbers", "rows", base=GROUPS),
    "no rows": changed([], "numbers", "rows", base=GROUPS),
    "a million rows": changed([0] * 10**6, "numbers", "groups", 0, "rows", base=GROUPS),
    "a label too few": changed([], "numbers", "labels", base=SAMPLES),
    "a number as a label": changed([3], "numbers", "labels", base=SAMPLES),
    "an image that is flat": changed([[0.1, 0.2]], "numbers", "images", base=SAMPLES),
    "an image of two colours": changed([[[[0.1, 0.2]]]], "numbers", "images", base=SAMPLES),
    "an image of nothing": changed([[[]]], "numbers", "images", base=SAMPLES),
    "a ragged image": changed([[[0.1], [0.1, 0.2]]], "numbers", "images", base=SAMPLES),
    "ten thousand images": changed([[[0.1]]] * 10_000, "numbers", "images", base=SAMPLES),
}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)


@pytest.fixture(params=BAD, ids=list(BAD))
def folder(request, tmp_path, monkeypatch):
    """A folder of a figure that is one, and of a file that is none."""
    if request.param == "not to be read" and os.getuid() == 0:
        pytest.skip("root reads everything")
    source = tmp_path / "figures"
    monkeypatch.setattr(paths, "figures_dir", lambda: source)
    write(source / "00_test" / "good.json", text_of().encode())
    write(source / "00_test" / "bad.json", BAD[request.param])
    return source


def refused(*arguments):
    """What a command said that refused the bad file."""
    result = CliRunner().invoke(cli.main, arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    (said,) = [line for line in result.output.splitlines() if "bad.json" in line]
    assert check(said)
    return said


def check(said):
    """Whether a line says what was expected, what came, and what to do."""
    return (
        said.startswith("Error: Expected '")
        and re.search(
            r"as this version of the lab writes it\. (Expected|It cannot be read:) ", said
        )
        and "Run its notebook again, or move the file away." in said
        and len(said) < 2_500
    )


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".json")


def test_redraw_draws_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "figures_dir", lambda: tmp_path)
    write(tmp_path / "00_test" / "good.json", text_of().encode())
    for number, content in enumerate(BAD.values()):
        write(tmp_path / "00_test" / f"{number}_bad.json", content)
    result = CliRunner().invoke(cli.main, ["redraw"])
    assert isinstance(result.exception, SystemExit)
    num_drawn = 1 + (os.getuid() == 0)  # root reads everything
    num_bad = len(BAD) + 1 - num_drawn
    *said, last = result.output.splitlines()
    assert last == (
        f"Error: {num_bad} of {len(BAD) + 1} figures are not drawn again; the others are."
    )
    refusals = [line for line in said if line.startswith("Error")]
    assert len(refusals) == num_bad
    assert all(map(check, refusals))
    assert [name.endswith("good.svg") for name in said if name.endswith(".svg")][-1]
    assert len(files(tmp_path)) == 1 + 2 * num_drawn


def test_a_gallery_is_not_written(folder):
    assert "Nothing was written." in refused("figures", "--gallery", "--to", str(folder))
    assert files(folder) == ["00_test"]


def test_nothing_is_exported(folder):
    target = folder.parent / "paper"
    refused("figures", "--to", str(target), "--from", str(folder), "--format", "svg")
    assert not target.exists()


def scoreboard(digest):
    return {
        "title": "quick profile",
        "profile": {"name": "quick", "num_pairs": 1},
        "parameters": {},
        "networks": "MLP",
        "dataset": GOOD["dataset"],
        "versions": {},
        "started": "2026-11-22T21:06:11+00:00",
        "ended": "2026-11-22T21:07:31+00:00",
        "figures_dir": "figures",
        "planned": ["00_test"],
        "claims": [],
        "notebooks": [
            {
                "notebook": "00_test",
                "seconds": 1.0,
                "error": "",
                "started": "2026-11-22T21:06:21+00:00",
                "python": "3.12.1",
                "devices": [],
                "parameters": {"profile": "quick", "settings": {}},
                "figures": [["bad", digest]],
            }
        ],
    }


def test_a_run_is_not_published(folder, monkeypatch):
    run_dir = folder.parent / "quick"
    monkeypatch.setenv("REBASIN_RUNS", str(folder.parent))
    monkeypatch.setattr(publishing, "notebook_sequence", lambda: [Path("00_test.ipynb")])
    folder.rename(run_dir.parent / "drawn")
    run_dir.mkdir()
    (run_dir.parent / "drawn").rename(run_dir / "figures")
    path = run_dir / "figures" / "00_test" / "bad.json"
    board = scoreboard(report.file_digest(path))
    (run_dir / report.SCOREBOARD_NAME).write_text(json.dumps(board))
    refused("publish")
    assert not folder.exists()


def test_a_report_does_without(folder):
    path = folder / "00_test" / "bad.json"
    board = scoreboard(report.file_digest(path))
    (folder.parent / report.SCOREBOARD_NAME).write_text(json.dumps(board))
    page = report.write_report(folder.parent).read_text()
    assert "<figure" not in page
    assert "(1 drawn again by another run since, or damaged)" in page


def test_what_is_changed_is_all_that_is_wrong(tmp_path):
    for number, base in enumerate([{}, OBJECTIVE, CONTOUR, GROUPS, SAMPLES]):
        path = tmp_path / f"{number}.json"
        path.write_text(text_of(base))
        assert figures.read_figure(path) == GOOD | base


# Scoreboards

ODD = [None, True, -1, 0.5, "", "x", "../../x", "//x.example", [], [[]], ["x"], {}, {"x": 1}, 1e300]


def altered_boards():
    whole = scoreboard("digest")
    notebook = whole["notebooks"][0]
    for name in whole:
        yield from (whole | {name: odd} for odd in [*ODD, float("inf"), float("nan")])
        yield {key: value for key, value in whole.items() if key != name}
    for name in notebook:
        for odd in [*ODD, float("inf"), [["../../x", "digest"]], [["x", 3]], [["x"]], [[[], {}]]]:
            yield whole | {"notebooks": [notebook | {name: odd}]}
        yield whole | {"notebooks": [{key: notebook[key] for key in notebook if key != name}]}


def words_of(act):
    """What a call refuses with; nothing if it does not."""
    try:
        act()
    except ValueError as error:
        return str(error)
    return ""


def test_scoreboards_of_any_kind_are_reported_or_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setenv("REBASIN_RUNS", str(tmp_path))
    monkeypatch.setattr(paths, "figures_dir", lambda: tmp_path / "published")
    monkeypatch.setattr(publishing, "notebook_sequence", lambda: [Path("00_test.ipynb")])
    path = tmp_path / "quick" / report.SCOREBOARD_NAME
    path.parent.mkdir()
    for board in altered_boards():
        path.write_text(json.dumps(board))
        for act in (lambda: report.write_report(path.parent), lambda: publishing.publish("quick")):
            said = words_of(act)
            assert not said or (said.startswith("Expected ") and len(said) < 1_500), board
            if (path.parent / report.REPORT_NAME).exists():
                page = (path.parent / report.REPORT_NAME).read_text()
                assert not re.search(r'href="(/|\.\.|[a-z]+:)', page), board
    assert not (tmp_path / "published").exists()
