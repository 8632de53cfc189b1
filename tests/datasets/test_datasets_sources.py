"""Finding, verifying and downloading, on a made-up data set and a server of our own."""

import contextlib
import dataclasses
import errno
import gzip
import hashlib
import http.server
import io
import logging
import os
import socket
import struct
import tarfile
import threading

import numpy as np
import pooch
import pytest

from rebasin_lab import paths
from rebasin_lab.datasets import formats, registry, sources

ARRAYS = {
    "train-images": np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2),
    "train-labels": np.array([0, 1, 1], np.uint8),
    "test-images": np.full((1, 2, 2), 255, np.uint8),
    "test-labels": np.array([1], np.uint8),
}
FILES = {
    name: struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    for name, array in ARRAYS.items()
}
DOWNLOADS = {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in FILES.items()}


def md5(data):
    return hashlib.md5(data).hexdigest()


def tiny_source(url="http://127.0.0.1:9", **changes):
    checksums = {name: f"md5:{md5(data)}" for name, data in FILES.items()}
    layout = sources.Layout(
        checksums, formats.read_idx_splits, folder="tiny-files", archive="tiny.tar.gz"
    )
    source = sources.Source(
        name="tiny",
        title="Tiny",
        class_names=("no", "yes"),
        train_shape=(3, 2, 2, 1),
        test_shape=(1, 2, 2, 1),
        layouts=(dataclasses.replace(layout, folder="", archive=""), layout),
        remote_files=tuple(
            sources.RemoteFile(name, f"{url}/{name}", md5(data)) for name, data in DOWNLOADS.items()
        ),
        folders=("tiny",),
    )
    return dataclasses.replace(source, **changes)


def load(source=None, data_dir=None, download=False):
    source = source or tiny_source()
    return sources.load_source(source, data_dir=data_dir, download=download, progress=False)


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def write_tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty user cache, no $REBASIN_DATA, and no proxy between us and our server."""
    monkeypatch.setattr(sources, "user_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.delenv("REBASIN_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache" / "tiny"


@pytest.mark.parametrize("files", [FILES, DOWNLOADS], ids=["plain", "gzipped"])
@pytest.mark.parametrize("below", ["", "tiny", "tiny-files", "tiny/tiny-files"])
def test_files_are_found_below_data_dir(tmp_path, files, below):
    write(tmp_path / "data" / below, files)
    data = load(data_dir=tmp_path / "data")
    np.testing.assert_array_equal(
        data.train_images[..., 0], ARRAYS["train-images"] / np.float32(255)
    )
    np.testing.assert_array_equal(data.train_labels, ARRAYS["train-labels"])
    assert str(tmp_path) not in data.source


def test_archive_is_read_in_memory(tmp_path):
    write_tar(
        tmp_path / "tiny.tar.gz", {f"tiny-files/{name}": data for name, data in FILES.items()}
    )
    data = load(data_dir=tmp_path)
    assert data.source == "tiny.tar.gz"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.tar.gz"]


def test_archive_without_a_file_is_refused(tmp_path):
    write_tar(tmp_path / "tiny.tar.gz", {"../train-images": b"elsewhere"})
    with pytest.raises(
        ValueError, match=r"tiny\.tar\.gz' to hold tiny-files/test-images, tiny-fil"
    ):
        load(data_dir=tmp_path)


def test_archive_with_a_changed_file_is_refused(tmp_path):
    changed = FILES | {"test-labels": FILES["test-labels"][:-1] + b"\0"}
    write_tar(
        tmp_path / "tiny.tar.gz", {f"tiny-files/{name}": data for name, data in changed.items()}
    )
    with pytest.raises(ValueError, match=r"tiny\.tar\.gz/tiny-files/test-labels' to have md5"):
        load(data_dir=tmp_path)


def test_environment_names_the_folder(tmp_path, monkeypatch):
    write(tmp_path / "data", FILES)
    monkeypatch.setenv("REBASIN_DATA", str(tmp_path / "data"))
    assert load().num_classes == 2


def test_data_dir_goes_before_environment_before_cache(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("REBASIN_DATA", str(tmp_path))
    source = tiny_source()
    assert sources.search_folders(source, None) == [tmp_path / "tiny", tmp_path, cache]
    (tmp_path / "other").mkdir()
    assert sources.search_folders(source, tmp_path / "other")[1] == tmp_path / "other"
    monkeypatch.setenv("REBASIN_DATA", "")
    assert sources.search_folders(source, None) == [cache]


def test_title_tells_layouts_apart(tmp_path):
    write(tmp_path, FILES)
    [layout, _] = tiny_source().layouts
    lossy = tiny_source(layouts=(dataclasses.replace(layout, title_suffix=" (lossy)"),))
    assert load(lossy, data_dir=tmp_path).title == "Tiny (lossy)"


def test_folder_that_does_not_exist_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="Expected data_dir to name a folder.*'.*nowhere'"):
        load(data_dir=tmp_path / "nowhere")
    monkeypatch.setenv("REBASIN_DATA", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match="variable REBASIN_DATA to name a folder.*gone'"):
        load()


def odd_places(folder):
    (folder / "file").write_bytes(b"")
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere")
    names = ("file", "pipe", "loop", "dangling", "file/below", "absent", "x" * 300)
    return [*(str(folder / name) for name in names), "/dev/null", " ", "~no-such-user", "b\udcff"]


def test_what_is_no_folder_of_data_sets_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in odd_places(tmp_path):
        for data_dir in (place, None):
            monkeypatch.setenv("REBASIN_DATA", "" if data_dir else place)
            with pytest.raises(
                (ValueError, FileNotFoundError), match="Expected .*folder"
            ) as caught:
                load(data_dir=data_dir)
            assert "\n" not in str(caught.value)
            assert ("data_dir" in str(caught.value)) == bool(data_dir)


def test_a_folder_that_lets_no_one_in_and_a_file_that_no_one_may_read_are_named(
    tmp_path, monkeypatch
):
    write(tmp_path / "tiny", FILES)
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: False)
        patched.setattr(os.path, "isfile", lambda path: False)
        with pytest.raises(FileNotFoundError, match=f"full set, .*'{tmp_path}/tiny'.* cannot be"):
            load(data_dir=tmp_path)
    read_bytes = paths.read_bytes

    def refusing(path, most_bytes):
        if path.name == "test-images":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_bytes(path, most_bytes)

    monkeypatch.setattr(paths, "read_bytes", refusing)
    with pytest.raises(PermissionError, match="test-images' .*; got Permission denied. Let it be"):
        load(data_dir=tmp_path)


def test_a_file_may_hold_what_any_format_makes_of_the_pixels():
    for source in registry.SOURCES.values():
        pixels = np.prod(source.train_shape) + np.prod(source.test_shape)
        assert 1.5 * pixels < source.most_bytes < 500_000_000


def test_missing_files_are_listed_with_folders_and_urls(tmp_path, cache):
    write(tmp_path / "tiny", {"train-images": FILES["train-images"]})
    with pytest.raises(FileNotFoundError, match="train-labels.*tiny.tar.gz.*REBASIN_DATA") as error:
        load(data_dir=tmp_path)
    for expected in (tmp_path / "tiny", cache, "http://127.0.0.1:9/train-images.gz"):
        assert str(expected) in str(error.value)


def test_changed_file_is_refused(tmp_path):
    changed = FILES["train-labels"][:-1] + b"\0"
    write(tmp_path, FILES | {"train-labels": changed})
    expected = f"train-labels' to have md5 {md5(FILES['train-labels'])}; got {md5(changed)}.*delete"
    with pytest.raises(ValueError, match=expected):
        load(data_dir=tmp_path)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves DOWNLOADS; the first folder of the address says what goes wrong."""

    def do_GET(self):  # noqa: N802
        _, fault, name = self.path.split("/")
        body = DOWNLOADS[name]
        if fault == "endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # the other end has had enough
                while True:
                    self.wfile.write(bytes(100_000))
        if fault == "gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        page = b"<!DOCTYPE html><p>Log in to the network</p>".ljust(len(body))[: len(body)]
        bodies = {"good": body, "wrong": body[:-1] + b"?", "cut": body[:-7], "page": page}
        self.wfile.write(bodies[fault])

    def log_message(self, *args):
        self.server.requests.append(args)


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_missing_files_are_downloaded_once(server, cache, capfd):
    source = tiny_source(f"{server.url}/good")
    first, second = load(source, download=True), load(source, download=True)
    assert first.digest == second.digest
    assert len(server.requests) == len(DOWNLOADS)
    assert sorted(path.name for path in cache.iterdir()) == sorted(DOWNLOADS)
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_on_request(server, cache, capfd):
    [remote, *_] = tiny_source(f"{server.url}/good").remote_files
    sources.fetch(remote, cache, progress=True)
    assert "100%" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong", "ValueError.*does not match"),
        ("page", "ValueError.*does not match"),
        ("cut", ""),
        ("endless", "200,000 bytes at most; the server sends more"),
        ("gone", "404"),
    ],
)
def test_failed_download_is_one_error_and_leaves_nothing(server, cache, fault, reason, monkeypatch):
    monkeypatch.setattr(sources, "MOST_DOWNLOADED_BYTES", 200_000)
    source = tiny_source(f"{server.url}/{fault}")
    with pytest.raises(OSError, match=f"download {server.url}/{fault}/train-images.gz.*{reason}"):
        load(source, download=True)
    assert list(cache.iterdir()) == []
    assert len(server.requests) <= 2  # one try; send_error logs a line of its own


def test_what_was_downloaded_and_damaged_since_is_named(server, cache):
    source = tiny_source(f"{server.url}/good")
    load(source, download=True)
    path = cache / "test-labels.gz"
    for content in (b"", b"<html>", path.read_bytes()[:-1], gzip.compress(bytes(9))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"test-labels\.gz.*([Dd]elete)"):
            load(source, download=True)
        assert path.read_bytes() == content


def test_no_network_is_one_error_that_lists_the_folders(cache):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(OSError, match="Expected to download.*ConnectionError") as error:
            load(tiny_source(url), download=True)
    assert str(cache) in str(error.value)


def test_network_is_left_alone_when_told(server):
    with pytest.raises(FileNotFoundError, match="Expected the files of Tiny"):
        load(tiny_source(f"{server.url}/good"), download=False)
    assert server.requests == []


def test_download_is_resumed_at_the_next_file(server, cache):
    write(cache, {"train-images.gz": DOWNLOADS["train-images.gz"]})
    load(tiny_source(f"{server.url}/good"), download=True)
    assert len(server.requests) == len(DOWNLOADS) - 1


def test_logger_of_pooch_keeps_its_level(server, cache):
    pooch.get_logger().setLevel(logging.INFO)
    sources.fetch(tiny_source(f"{server.url}/good").remote_files[0], cache)
    assert pooch.get_logger().level == logging.INFO
