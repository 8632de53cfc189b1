import concurrent.futures
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from rebasin_lab import paths


def test_a_checkout_keeps_its_own_figures_and_notebooks():
    assert (paths.project_dir() / "pyproject.toml").exists()
    assert paths.notebooks_dir().is_dir()


def test_rebasin_runs_moves_runs_and_checkpoints(monkeypatch, tmp_path):
    monkeypatch.setenv("REBASIN_RUNS", str(tmp_path))
    assert paths.runs_dir() == tmp_path
    assert paths.checkpoints_dir() == tmp_path / "checkpoints"


def test_writing_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file"
    for content in (b"one", b"two"):
        paths.write_atomically(path, content)
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["file"]


def test_a_full_disk_says_what_to_do(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Could not write .* MB to .*Free some space") as caught:
        paths.write_atomically(path, b"after")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_threads_that_write_one_file_do_not_meet(tmp_path, monkeypatch):
    """Nor do processes, of one number even, as in two containers that share a folder."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path, contents = tmp_path / "file", [bytes([i]) * 100_000 for i in range(8)]
    for _ in range(5):
        with concurrent.futures.ThreadPoolExecutor(8) as executor:
            list(executor.map(lambda content: paths.write_atomically(path, content), contents))
        assert path.read_bytes() in contents
        assert os.listdir(tmp_path) == ["file"]


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        paths.write_atomically(tmp_path / "file", b"half")
    assert os.listdir(tmp_path) == []


def test_another_failure_gives_no_wrong_advice(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="Could not write") as caught:
        paths.write_atomically(tmp_path / "file" / "below", b"")
    assert "Free some space" not in str(caught.value)


@pytest.mark.parametrize("name", ["file", "[a-b]*?{1}"])
def test_what_a_killed_process_left_is_swept_later(tmp_path, name):
    old, recent = tmp_path / f".{name}.1.tmp", tmp_path / f".{name}.2.tmp"
    for leftover in (old, recent):
        leftover.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    paths.write_atomically(tmp_path / name, b"whole")
    assert not old.exists()
    assert recent.exists(), "another process may be writing it"


def test_of_what_is_old_nothing_but_temporary_files_is_swept(tmp_path):
    """Those of other names, too: what was to become a file may never be written again."""
    theirs = [".file.tmp", "file.0123456789abcdef.tmp", ".other.0123456789abcdeg.tmp", ".env"]
    ours = [".other.0123456789abcdef.tmp", ".other.4711.tmp"]
    for name in theirs + ours:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    paths.write_atomically(tmp_path / "file", b"whole")
    assert sorted(os.listdir(tmp_path)) == sorted([*theirs, "file"])


def make_odd_files(folder):
    """What may lie where a file is expected, with what is said of it."""
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    socket.socket(socket.AF_UNIX).bind(str(folder / "socket"))
    for name, target in (("loop", "loop"), ("dangling", "nowhere"), ("to a pipe", "pipe")):
        (folder / name).symlink_to(folder / target)
    return {
        folder / "folder": "it is a folder",
        folder / "pipe": "it is a pipe",
        folder / "to a pipe": "it is a pipe",
        folder / "socket": "it is a device or socket",
        Path("/dev/zero"): "it is a device or socket",
        folder / "loop": "symbolic links",
        folder / "dangling": "No such file",
        folder / "absent": "No such file",
        folder / ("x" * 300): "File name too long",
        folder / "folder" / ".." / "pipe" / "below": "Not a directory",
    }


def test_what_is_no_file_is_read_by_no_one_and_named(tmp_path):
    for path, reason in make_odd_files(tmp_path).items():
        for read in (paths.read_bytes, paths.read_json):
            with pytest.raises((ValueError, OSError), match=reason):
                read(path, 100)


def test_no_more_is_read_than_a_file_may_hold(tmp_path):
    path = tmp_path / "file"
    for size in (0, 1, 10):
        path.write_bytes(b"1" * size)
        assert paths.read_bytes(path, 10) == b"1" * size
    with path.open("wb") as file:
        file.truncate(10**12)
    for read in (paths.read_bytes, paths.read_json):
        with pytest.raises(ValueError, match=r"10 bytes at most; it holds 1,000,000,000,000"):
            read(path, 10)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, change):
    path = tmp_path / "file"
    path.write_bytes(bytes(10))
    fstat = os.fstat

    def changing(descriptor):
        status = fstat(descriptor)
        os.truncate(path, 10 + change)
        return status

    monkeypatch.setattr(os, "fstat", changing)
    with pytest.raises(ValueError, match="stay as it is while it is read"):
        paths.read_bytes(path, 100)


def test_a_folder_a_pipe_or_a_device_is_never_replaced(tmp_path):
    for path, reason in make_odd_files(tmp_path).items():
        if "it is" not in reason or path.is_symlink():
            continue
        before = path.stat()
        with pytest.raises(OSError, match=f"Could not write '{path}': there is {reason[6:]}"):
            paths.write_atomically(path, b"")
        assert path.stat() == before
    for name in ("loop", "dangling", "to a pipe"):  # the link is replaced, what it leads to stays
        paths.write_atomically(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
    assert (tmp_path / "pipe").is_fifo()


def test_threads_hold_a_lock_one_after_the_other(tmp_path):
    inside, most = 0, 0

    def work(_):
        nonlocal inside, most
        with warnings.catch_warnings(), paths.locked(tmp_path / "deep" / "file", "counting"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with concurrent.futures.ThreadPoolExecutor(4) as executor:
            list(executor.map(work, range(8)))
    assert (inside, most) == (0, 1)


HOLD = """
import sys, time
from pathlib import Path
from rebasin_lab import paths
with paths.locked(Path(sys.argv[1]), "a long work"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "file")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_process_says_who_is_the_first(holder, tmp_path):
    with (
        pytest.raises(
            paths.LockedError, match=rf"file' is in use by process {holder.pid} on .*a long work"
        ),
        paths.locked(tmp_path / "file", "mine", wait=False),
    ):
        pytest.fail("held twice")
    with paths.locked(tmp_path / "other", "mine", wait=False):
        pass


def test_a_lock_ends_with_its_process_and_who_waits_goes_on(holder, tmp_path):
    threading.Timer(0.3, os.kill, (holder.pid, signal.SIGKILL)).start()
    mine = contextlib.ExitStack()
    with pytest.warns(UserWarning, match=f"process {holder.pid} on .* Waiting"):
        mine.enter_context(paths.locked(tmp_path / "file", "mine"))
    with mine:
        assert holder.wait() == -signal.SIGKILL
        assert f"process {os.getpid()}" in (tmp_path / ".file.holder").read_text()
    assert os.listdir(tmp_path) == [".file.lock"]


def test_an_error_inside_ends_the_lock_and_is_passed_on(tmp_path):
    for error in (OSError(errno.ENOSPC, "own"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, paths.locked(tmp_path / "file", "mine"):
            raise error
        assert caught.value is error
    with paths.locked(tmp_path / "file", "mine", wait=False):
        pass


def test_what_cannot_be_locked_is_an_error_at_once(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / ".taken.lock").mkdir()
    for path in (tmp_path / "file" / "below", tmp_path / "taken"):
        with pytest.raises(OSError, match="Could not lock .*"), paths.locked(path, "mine"):
            pytest.fail("held")


def test_a_home_is_written_as_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, found in (("REBASIN_RUNS", paths.runs_dir), ("REBASIN_DATA", paths.data_dir)):
        monkeypatch.setenv(name, "~/mine")
        assert found() == tmp_path / "mine"


def make_odd_places(folder):
    """Things that no folder can be made of, by name."""
    (folder / "file").touch()
    os.mkfifo(folder / "fifo")
    (folder / "to a file").symlink_to(folder / "file")
    below = {name: str(folder / name) for name in ("file", "file/below", "fifo", "to a file")}
    more = {"device": "/dev/null", "below a device": "/dev/null/x", "long": "x" * 300}
    return below | more | {"blank": " ", "bytes": os.fsdecode(b"\xff"), "user": "~no-such-user/x"}


def test_what_cannot_be_a_folder_is_refused_in_a_paragraph(monkeypatch, tmp_path):
    for name, place in make_odd_places(tmp_path).items():
        monkeypatch.setenv("REBASIN_RUNS", place)
        with pytest.raises(ValueError, match="REBASIN_RUNS to be a folder.*; got .*: ") as caught:
            paths.runs_dir()
        assert "\n" not in str(caught.value), name
    for place in ("", "a\0b"):
        with pytest.raises(ValueError, match="Expected it to be a folder"):
            paths.checked_folder(place, "it")


def test_a_link_to_a_folder_or_to_nothing_yet_is_a_folder(monkeypatch, tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("there", "not yet"):
        link = tmp_path / f"link to {name}"
        link.symlink_to(tmp_path / name)
        monkeypatch.setenv("REBASIN_RUNS", f"{link}/")
        assert paths.runs_dir() == tmp_path / name


@pytest.mark.parametrize("name", ["x", "quick", "a.b-c_d", "x" * 100, "7", "_x", "console"])
def test_names(name):
    assert paths.checked_name(name, "it") == name
    assert paths.run_dir(name) == paths.runs_dir() / name


def test_nothing_outside_a_folder_is_removed(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "file").touch()
    (inside / "link").symlink_to(outside)
    for path in (outside / "file", inside / "link" / "file", inside / ".." / "outside" / "file"):
        with pytest.raises(ValueError, match="Expected .* to lie in"):
            paths.remove(path, within=inside)
    assert (outside / "file").exists()
    paths.remove(inside / "file", within=inside)
    paths.remove(inside / "file", within=inside)  # is gone already
    paths.remove(inside / "link", within=inside)
    assert list(inside.iterdir()) == []
    (inside / "folder").mkdir()
    with pytest.raises(OSError, match="Could not remove .* Move it away"):
        paths.remove(inside / "folder", within=inside)
