import errno
import os
import time

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


def test_a_full_disk_says_what_to_do(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    # The temporary file leads to /dev/full, whose writes fail as a full disk's do.
    (tmp_path / f".file.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="Could not write .* MB to .*Free some space") as caught:
        paths.write_atomically(path, b"after")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"before"


def test_another_failure_gives_no_wrong_advice(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="Could not write") as caught:
        paths.write_atomically(tmp_path / "file" / "below", b"")
    assert "Free some space" not in str(caught.value)


def test_what_a_killed_process_left_is_swept_later(tmp_path):
    old, recent = tmp_path / ".file.1.tmp", tmp_path / ".file.2.tmp"
    for leftover in (old, recent):
        leftover.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    paths.write_atomically(tmp_path / "file", b"whole")
    assert not old.exists()
    assert recent.exists(), "another process may be writing it"
