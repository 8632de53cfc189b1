"""A class kit: one file that gives a class its networks, and cannot do anything else."""

import json
import os
import zipfile

import jax
import numpy as np
import pytest
from click.testing import CliRunner

from rebasin_lab import cli, paths
from rebasin_lab.lab import class_kit, runner
from rebasin_lab.lab.class_kit import archive, coding, making
from rebasin_lab.paper import profiles, store
from rebasin_lab.paper.sections.rounding import rounded

TRIAL = {"trial": True}
NETWORK = f"checkpoints/{'a' * 24}.safetensors"
RECORD = f"records/{'b' * 32}.safetensors"
MADE_FOR = {"profile": "quick", "settings": TRIAL, "notebooks": ["00_quickstart"], "versions": {}}


def invoke(*arguments):
    return CliRunner().invoke(cli.main, ["class-kit", *map(str, arguments)])


def experiments():
    names = [path.stem for path in runner.notebook_sequence(making.NOTEBOOKS)]
    return making.experiments_of(names, profiles.get_profile("quick", trial=True))


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit of 00 to 06 on tiny data; its notebooks are not run, one result stands for theirs."""
    folder = tmp_path_factory.mktemp("kit")

    def run(names, settings, runs, on_line):
        assert names[0] == "00_quickstart"
        assert names[-1] == "06_onset"
        paths.write_atomically(runs / RECORD, b"a result")
        paths.write_atomically(runs / RECORD.replace("b", "c"), bytes(2_000_000))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REBASIN_RUNS", str(folder / "runs"))
        patch.setattr(making, "_run", run)
        class_kit.make(folder / "kit.zip", settings=TRIAL)
        trained = {one: store.trained(one) for one in experiments()}
    return folder / "kit.zip", trained


def test_bytes_in_planes_come_back():
    for content in (b"", b"abc", bytes(range(9)), bytes(1024)):
        assert coding.from_planes(coding.to_planes(content)) == content


def _bits(leaf):
    return np.asarray(leaf).view(np.uint32)


def test_differences_of_rounded_networks_come_back(trees_equal):
    rng = np.random.default_rng(0)
    now, later = (
        {"in": rng.normal(0, scale, (5, 6)).astype("f4"), "out": rng.normal(0, 9, 3).astype("f4")}
        for scale in (0.05, 60_000 / 9)
    )
    now = rounded(now)
    back = coding.from_differences(coding.to_differences(now, later), later)
    trees_equal(jax.tree.map(_bits, back), jax.tree.map(_bits, now))
    with pytest.raises(ValueError, match="Expected differences of 33 weights; got 32"):
        coding.from_differences(bytes(4 * 32), later)


def test_a_store_from_a_kit_has_all_networks_and_every_bit_that_is_measured(
    kit, monkeypatch, tmp_path, trees_equal
):
    path, trained = kit
    monkeypatch.setenv("REBASIN_RUNS", str(tmp_path / "students"))
    done = class_kit.unpack(path)
    assert done.num_there == 0
    assert done.num_networks == len(trained) > 1
    for experiment, network in trained.items():
        assert store.is_stored(experiment)
        restored = store.trained(experiment)
        assert restored.origin == "restored"
        trees_equal(restored.params, network.params)
        for epoch in experiment.snapshot_epochs:
            trees_equal(restored.params_after(epoch), rounded(network.params_after(epoch)))
    assert (paths.runs_dir() / RECORD).read_bytes() == b"a result"
    large = paths.runs_dir() / RECORD.replace("b", "c")
    assert not large.exists()  # quicker to compute than to send


def test_what_is_there_is_left_and_that_is_said(kit, monkeypatch, tmp_path):
    path, _ = kit
    monkeypatch.setenv("REBASIN_RUNS", str(tmp_path / "students"))
    paths.write_atomically(paths.runs_dir() / RECORD, b"my own")
    result = invoke("--unpack", path)
    assert result.exit_code == 0, result.output
    assert "1 were there before, and are as they were." in result.output
    assert "networks are stored." in result.output
    assert (paths.runs_dir() / RECORD).read_bytes() == b"my own"
    assert class_kit.unpack(path).num_written == 0
    assert {each.name for each in paths.runs_dir().iterdir()} == {"checkpoints", "records"}


def test_the_same_store_gives_the_same_bytes(kit, tmp_path):
    path, _ = kit
    with archive.opened(path) as opened:
        contents = {name: opened.read(name) for name in opened.names}
        made_for = {
            key: opened.table[key] for key in opened.table if key not in ("made_by", "format")
        }
        made_for.pop("files")
    archive.write(tmp_path / "again.zip", made_for, contents)
    assert (tmp_path / "again.zip").read_bytes() == path.read_bytes()


def zipped(path, contents, **table):
    """A zip that looks like a kit."""
    noted = {name: {"bytes": 1, "sha256": ""} for name in contents}
    whole = {"made_by": archive.MADE_BY, "format": 1, **MADE_FOR, "files": noted, **table}
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(archive.TABLE, json.dumps(whole))
        for name, content in contents.items():
            packed.writestr(name, content)
    return path


def cut(kit, path):
    path.write_bytes(kit.read_bytes()[:-1000])


def flipped(kit, path):
    with zipfile.ZipFile(kit) as packed:
        largest = max(packed.infolist(), key=lambda entry: entry.compress_size)
    content = bytearray(kit.read_bytes())
    content[largest.header_offset + largest.compress_size // 2] ^= 1
    path.write_bytes(content)


def no_zip(_, path):
    path.write_text("networks")


def a_zip(_, path):
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("photo.png", b"")


def a_folder(_, path):
    path.mkdir()


def newer(_, path):
    zipped(path, {}, format=2)


def of_others(_, path):
    zipped(path, {}, made_by="somebody")


def wrong_digest(kit, path):
    zipped(path, {NETWORK: b"x"}, notebooks=[])


def table_of_more(_, path):
    zipped(path, {}, files={RECORD: {"bytes": 1, "sha256": ""}})


def other_notebooks(_, path):
    zipped(path, {}, notebooks=["99_nothing"])


def other_code(_, path):
    zipped(path, {}, versions={"jax": "0.0.1"})


WRONG = {
    cut: "it is none, or it was cut short",
    flipped: "is damaged, copy or download it again",
    no_zip: "it is none, or it was cut short",
    a_zip: "it has no 'class-kit.json'",
    a_folder: "to be a file, a class kit",
    newer: "it is one of format 2",
    of_others: "its table is not one's",
    wrong_digest: "the SHA-256 of 'checkpoints/a.*' is not the one noted",
    table_of_more: "its table names other files than it has",
    other_notebooks: "asks for what there is not .*99_nothing",
    other_code: r"it was made with .*jax 0.0.1 \(here",
}


@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_no_kit_and_a_damaged_one_are_refused_before_anything_is_written(
    make, kit, monkeypatch, tmp_path
):
    monkeypatch.setenv("REBASIN_RUNS", str(tmp_path / "students"))
    path = tmp_path / "kit.zip"
    make(kit[0], path)
    with pytest.raises(ValueError, match=WRONG[make]):
        class_kit.unpack(path)
    assert not list(paths.runs_dir().rglob("*.safetensors"))
    assert invoke("--unpack", path).exit_code == 1


@pytest.mark.parametrize(
    "name",
    [
        "../evil.safetensors",
        "/etc/evil",
        "checkpoints/../../evil.safetensors",
        f"checkpoints/{'a' * 24}.safetensors/",
        f"checkpoints/{'a' * 24}.safetensors\n",
        f"checkpoints\\{'a' * 24}.safetensors",
        "checkpoints/evil.py",
        "records/.lock",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name, monkeypatch, tmp_path):
    monkeypatch.setenv("REBASIN_RUNS", str(tmp_path / "students"))
    with pytest.raises(ValueError, match="which none has"):
        class_kit.unpack(zipped(tmp_path / "kit.zip", {name: b"x"}))
    with pytest.raises(ValueError, match="Expected names of a store's files"):
        archive.write(tmp_path / "mine.zip", MADE_FOR, {name: b"x"})


def test_a_file_that_unpacks_to_more_than_a_kit_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(archive, "_MOST_ENTRY_BYTES", 1000)
    with pytest.raises(ValueError, match="it unpacks to"):
        class_kit.unpack(zipped(tmp_path / "kit.zip", {RECORD: bytes(5000)}))


def test_a_kit_that_is_not_there_is_one_paragraph(tmp_path):
    result = invoke("--unpack", tmp_path / "nowhere.zip")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "Expected --to or --unpack" in invoke("--unpack", "a.zip", "--to", "b.zip").output


@pytest.mark.slow
def test_notebooks_from_a_kit_train_nothing_and_compute_nothing_again(monkeypatch, tmp_path):
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # as a reader runs it
    monkeypatch.setenv("REBASIN_RUNS", str(tmp_path / "teacher"))
    class_kit.make(tmp_path / "kit.zip", only=("00", "06"), settings=TRIAL)
    monkeypatch.setenv("REBASIN_RUNS", str(tmp_path / "students"))
    class_kit.unpack(tmp_path / "kit.zip")
    before = {path: path.stat().st_mtime_ns for path in stored()}
    plan = runner.plan_run(parameters=TRIAL, only=("00", "06"))
    with open(os.devnull, "w") as out:
        assert runner.reproduce(plan, out=out) == 0
    assert {path: path.stat().st_mtime_ns for path in stored()} == before


def stored():
    return sorted(paths.runs_dir().glob("*/*.safetensors"))
