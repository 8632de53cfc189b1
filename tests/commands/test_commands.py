"""The four commands on networks of a few units."""

import json
import re

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from PIL import Image

import rebasin_lab as rl
import tiny
from rebasin_lab import merging
from rebasin_lab.commands import check, config, outputs
from rebasin_lab.interop import checkpoints

NET = "--model tiny:mlp --input 2x2x3"
PIXELS = f"--data data.npz --mean {tiny.MEAN} --std {tiny.STD}"


def loaded(path):
    """Arrays and metadata, as another program reads them."""
    with safetensors.safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def images(folder):
    """As the commands hand them to the function."""
    stored = tiny.stored_data(folder / "data.npz")
    return (stored["images"] / 255 - 0.5) / 0.25, stored["labels"]


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        ("a", "same weights"),
        ("moved", "permuted copy"),
        ("near", "same basin"),
        ("near_moved", "permuted relative"),
        ("b", "unrelated"),
    ],
)
def test_check_tells_how_two_networks_are_related(folder, run, other, verdict):
    status, output = run(f"check a.safetensors {other}.safetensors {NET} --json {other}.json")
    assert status == 0
    assert output.splitlines()[-2] == verdict
    record = json.loads((folder / f"{other}.json").read_text())
    assert record["verdict"] == verdict
    assert record["measurements"]["equivalence"] < 1e-5


@pytest.mark.parametrize(
    ("other", "verdict"),
    [("a", "same weights"), ("near", "same basin, by the distance alone"), ("moved", "unknown")],
)
def test_check_without_a_network_says_what_it_can(folder, run, other, verdict):
    status, output = run(f"check a.safetensors {other}.safetensors")
    assert status == 0
    assert output.splitlines()[-1].startswith(verdict)


def test_check_of_two_architectures_lists_differences(folder, run):
    status, output = run(f"check a.safetensors wide.safetensors {NET} --json d.json")
    assert status == check.DIFFERENT
    assert "'up.bias' is [32] in 'a.safetensors' and [33] in 'wide.safetensors'" in output
    differences = json.loads((folder / "d.json").read_text())["measurements"]["differences"]
    assert len(differences) == 3


def test_align_undoes_a_permutation_bit_by_bit(folder, run):
    kept = {"counter": np.array(7), "up.bias": tiny.weights(0)["up.bias"].astype(np.float64)}
    metadata = {"about": "B", "format": "pt"}
    tiny.save(folder / "b2.safetensors", tiny.permuted(tiny.weights(0) | kept), metadata)
    tiny.save(folder / "a2.safetensors", tiny.weights(0, counter=np.array(1)))
    line = "align a2.safetensors b2.safetensors --to out.safetensors --json p.json"
    net = "--model tiny:mlp --input 12 --statistics counter"
    status, output = run(f"{line} {net}")
    assert status == 0, output
    arrays, written = loaded(folder / "out.safetensors")
    for name, wanted in (tiny.weights(0) | kept).items():
        assert arrays[name].dtype == wanted.dtype
        np.testing.assert_array_equal(arrays[name], wanted)
    card = json.loads(written.pop(outputs.CARD))
    assert written == metadata
    assert card["measurements"]["distance_after"] < 1e-6 < card["measurements"]["distance_before"]
    assert card["inputs"][1]["sha256"] == checkpoints.open_checkpoint("b2.safetensors").digests()
    permutation = json.loads((folder / "p.json").read_text())["permutation"]
    assert sorted(permutation["P_0"]) == list(range(32))
    text = (folder / "out.md").read_text()
    assert text.startswith("# out.safetensors\n")
    assert "weight" in text


def test_average_of_a_network_and_its_copy_is_that_network(folder, run):
    for name in ("a", "moved"):
        arrays = safetensors.numpy.load_file(folder / f"{name}.safetensors")
        half = {path: leaf.astype(ml_dtypes.bfloat16) for path, leaf in arrays.items()}
        tiny.save(folder / f"{name}.safetensors", half, {"about": "A"})
    status, output = run(f"merge a.safetensors moved.safetensors --to m.safetensors {NET}")
    assert status == 0, output
    ours = (checkpoints.open_checkpoint(folder / f"{name}.safetensors") for name in "am")
    a, m = map(dict, ours)
    assert list(a) == list(m)
    for name, leaf in a.items():
        assert m[name].dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(m[name], leaf)
    assert checkpoints.open_checkpoint("m.safetensors").metadata["about"] == "A"


def test_a_plain_average_needs_no_network_and_reads_array_by_array(folder, run, monkeypatch):
    read = []
    average = merging.average

    def spied(networks, weights):
        read.append(list(networks[0]))
        return average(networks, weights)

    monkeypatch.setattr(merging, "average", spied)
    line = "merge a.safetensors b.safetensors near.safetensors --to m.safetensors"
    status, output = run(f"{line} --align none --weights 1,2,1")
    assert status == 0, output
    found, _ = loaded(folder / "m.safetensors")
    parents = [loaded(folder / f"{name}.safetensors")[0] for name in ("a", "b", "near")]
    wanted = average(parents, [1.0, 2.0, 1.0])
    assert all(np.array_equal(found[name], leaf) for name, leaf in wanted.items())
    assert sorted(read) == sorted([name] for name in wanted)


def test_many_is_that_of_the_library(folder, run):
    line = "merge a.safetensors b.safetensors near_moved.safetensors --to m.safetensors"
    status, output = run(f"{line} {NET} --method many")
    assert status == 0, output
    parents = [loaded(folder / f"{name}.safetensors")[0] for name in ("a", "b", "near_moved")]
    spec = rl.infer_permutation_spec(tiny.mlp, parents[0], np.ones((2, 12), np.float32))
    wanted = rl.merge_many(spec, parents).params
    found, _ = loaded(folder / "m.safetensors")
    assert all(np.array_equal(found[name], leaf) for name, leaf in wanted.items())


MERGE_YML = """models:
  - {model: a.safetensors, parameters: {weight: 1}}
  - {model: near_moved.safetensors, parameters: {weight: 3.0}}
merge_method: least-squares
parameters: {model: "tiny:mlp", data: data.npz, mean: [0.5], std: 0.25, images: 7}
output: m.safetensors
"""


def test_least_squares_by_a_file(folder, run):
    (folder / "merge.yml").write_text(MERGE_YML)
    line = "merge a.safetensors near_moved.safetensors --to m.safetensors --weights 1,3"
    line += f" --method least-squares --model tiny:mlp {PIXELS} --images 30 --dry-run"
    planned = run("merge --config merge.yml --images 30 --dry-run")
    assert planned == run(line)
    assert "look at 30 of 40 examples of data.npz, with labels" in planned[1]
    status, output = run("merge --config merge.yml --images 40 --batch-size 40")
    assert status == 0, output
    assert "merged: accuracy" in output
    card = json.loads(loaded(folder / "m.safetensors")[1][outputs.CARD])
    assert card["recipe"]["weights"] == [1, 3]
    assert card["measurements"]["explained"].keys() == {"up.weight", "down.weight"}
    assert card["data"]["examples"] == 40


@pytest.mark.parametrize(("size", "width"), [("1", 32), ("1.5", 48)])
def test_inner_units_are_chosen_for_a_size(folder, run, size, width):
    line = "merge a.safetensors b.safetensors --to m.safetensors --method least-squares --size"
    status, output = run(f"{line} {size} --model tiny:mlp {PIXELS} --batch-size 40")
    assert status == 0, output
    arrays, metadata = loaded(folder / "m.safetensors")
    assert {name: leaf.shape for name, leaf in arrays.items()} == {
        "up.weight": (12, width),
        "up.bias": (width,),
        "down.weight": (width, 3),
    }
    assert json.loads(metadata[outputs.CARD])["recipe"]["size"] == float(size)


def test_the_example_of_the_help_is_read(tmp_path):
    (tmp_path / "merge.yml").write_text(config.EXAMPLE)
    given = config.read_config(str(tmp_path / "merge.yml"), ["torch", "data", "mean", "std"])
    assert given["networks"] == ["a.safetensors", "b.safetensors"]
    assert given["weights"] == [0.5, 0.5]
    assert (given["method"], given["to"]) == ("least-squares", "merged.safetensors")


@pytest.mark.parametrize("method", ["average", "least-squares"])
def test_merge_says_what_it_makes_of_each_network_alone_and_of_junk(run, folder, method):
    line = (
        f"merge a.safetensors near_moved.safetensors --to m.safetensors --model tiny:mlp {PIXELS} "
    )
    line += f"--batch-size 10 --method {method}"
    status, planned = run(f"{line} --controls --dry-run")
    assert status == 0
    assert "merge 3 times more, as controls" in planned
    status, output = run(f"{line} --controls")
    assert status == 0, output
    ends = [f"control: all weight on {number}" for number in (1, 2)]
    said = dict(re.findall(r"^(.*): accuracy ([\d.]+)", output, re.M))
    assert set(said) == {
        "1 a.safetensors",
        "2 near_moved.safetensors",
        "merged",
        *ends,
        "control: others shuffled",
        "ensemble",
    }
    assert said[ends[0]] == said["1 a.safetensors"]
    assert said[ends[1]] == said["2 near_moved.safetensors"]
    assert "others shuffled" in (folder / "m.md").read_text()
    before, _ = loaded(folder / "m.safetensors")
    assert run(f"{line} --force")[0] == 0
    after, _ = loaded(folder / "m.safetensors")
    for name, array in before.items():  # controls change nothing of the merge
        np.testing.assert_array_equal(array, after[name])


@pytest.mark.parametrize("line", ["merge", "align"])
def test_a_dry_run_checks_all_and_writes_nothing(folder, run, line):
    before = set(folder.iterdir())
    status, output = run(f"{line} a.safetensors b.safetensors --to m.safetensors {NET} --dry-run")
    assert status == 0
    assert "write m.safetensors\nwrite m.md\nNothing is done: --dry-run." in output
    assert set(folder.iterdir()) == before


def test_force_writes_over(folder, run):
    (folder / "m.safetensors").write_text("old")
    line = "merge a.safetensors b.safetensors --to m.safetensors --align none --force"
    assert run(line)[0] == 0
    assert loaded(folder / "m.safetensors")[0].keys() == tiny.weights(0).keys()


def test_a_run_that_ends_early_leaves_nothing_half_written(folder, run, monkeypatch):
    before = set(folder.iterdir())

    def interrupted(networks, weights):
        raise KeyboardInterrupt

    monkeypatch.setattr(merging, "average", interrupted)
    status, output = run("merge a.safetensors b.safetensors --to m.safetensors --align none")
    assert status == 130
    assert "Interrupted." in output
    assert set(folder.iterdir()) == before


def test_line_measures_both_lines(folder, run):
    status, output = run(
        f"line a.safetensors moved.safetensors --points 3 --to l.json --model tiny:mlp {PIXELS}"
    )
    assert status == 0, output
    measured = json.loads((folder / "l.json").read_text())["measurements"]
    assert measured["lambdas"] == [0, 0.5, 1]
    ours = loaded(folder / "a.safetensors")[0]
    loss, accuracy = rl.evaluate(tiny.mlp, ours, *images(folder))
    assert measured["naive"]["loss"][0] == pytest.approx(loss, rel=1e-5)
    assert measured["permuted"]["accuracy"] == pytest.approx([accuracy] * 3)
    assert measured["permuted"]["loss"] == pytest.approx([loss] * 3, rel=1e-5)
    assert measured["naive"]["loss"][1] != pytest.approx(loss, rel=0.05)


def test_a_folder_of_images_is_what_an_npz_of_them_is(folder, run):
    stored = tiny.stored_data(folder / "data.npz")
    for number, (image, label) in enumerate(zip(stored["images"], stored["labels"], strict=True)):
        (folder / "images" / f"class {label}").mkdir(parents=True, exist_ok=True)
        path = folder / "images" / f"class {label}" / f"{number:02}.png"
        Image.fromarray(image).save(path)
    line = "check a.safetensors b.safetensors --model tiny:mlp --data"
    accuracies = []
    for data in ("data.npz", "images"):
        status, output = run(f"{line} {data} --mean {tiny.MEAN} --std {tiny.STD}")
        assert status == 0, output
        accuracies.append([row for row in output.splitlines() if row.startswith("accuracy")])
    assert len(accuracies[0]) == 2
    assert accuracies[0] == accuracies[1]


def test_names_with_slashes_are_nested_dicts(folder, run):
    for name in ("a", "moved"):
        arrays = safetensors.numpy.load_file(folder / f"{name}.safetensors")
        slashed = {path.replace(".", "/"): leaf for path, leaf in arrays.items()}
        tiny.save(folder / f"{name}.safetensors", slashed)
    line = "check a.safetensors moved.safetensors --input 12"
    assert "permuted copy" in run(f"{line} --model tiny:nested")[1]
