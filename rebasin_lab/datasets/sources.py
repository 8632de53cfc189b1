"""Find, download and verify the files of a data set.

A `Source` describes a data set, a `Layout` one published form of its files, a `RemoteFile` a
download. A file must have the published checksum of its uncompressed content: a recompressed copy
is accepted, a changed one is an error.
"""

import contextlib
import dataclasses
import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from rebasin_lab import paths
from rebasin_lab.datasets import dataset, formats

Reader = Callable[[formats.Contents], tuple[formats.Split, formats.Split]]

_TIMEOUT = (10, 60)  # seconds to connect, and between two packets
MOST_DOWNLOADED_BYTES = 500_000_000  # of a file; CIFAR's archives, the largest, have 170 MB


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file to download: its name on disk, its URL, and the md5 of the download."""

    name: str
    url: str
    md5: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """One form in which the files of a data set are published."""

    files: dict[str, str | None]  # name (".gz" may follow on disk) -> "md5:..." once uncompressed
    read: Reader
    folder: str = ""  # below the folder searched, and inside the archive
    archive: str = ""  # a tar file that may stand in for the folder
    title_suffix: str = ""  # in captions, for another form than the canonical one


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set in files, with its possible layouts; the first that exists is read."""

    name: str
    title: str
    class_names: tuple[str, ...]
    train_shape: tuple[int, int, int, int]  # of the images
    test_shape: tuple[int, int, int, int]
    layouts: tuple[Layout, ...]
    remote_files: tuple[RemoteFile, ...]
    folders: tuple[str, ...]  # subfolders to search, in order

    @property
    def most_bytes(self) -> int:
        """The largest size of a file, compressed or not: twice the pixels, and some for headers.

        Labels and names are small, and no format here stores more than a byte per pixel.
        """
        return 2 * (math.prod(self.train_shape) + math.prod(self.test_shape)) + 1_000_000


def user_cache(name: str) -> Path:
    """The download folder of a data set in the user cache; it need not exist."""
    import pooch  # here, as below: only loading files needs it

    return Path(pooch.os_cache("rebasin_lab")) / name


def search_folders(source: Source, data_dir: Path | str | None) -> list[Path]:
    """The folders to search for a data set, in order.

    Args:
        source: the data set.
        data_dir: the folder of data sets; by default $REBASIN_DATA, if set.
    """
    root = paths.checked_folder(data_dir, "data_dir") if data_dir is not None else paths.data_dir()
    if not root:
        return [user_cache(source.name)]
    if not root.is_dir():
        setting = "data_dir" if data_dir is not None else "the environment variable REBASIN_DATA"
        raise FileNotFoundError(
            f"Expected {setting} to name a folder with data sets; there is no folder '{root}'. "
            "Create it, correct it, or leave it out to use the user cache."
        )
    return [*(root / folder for folder in source.folders), root, user_cache(source.name)]


def load_source(
    source: Source, *, data_dir: Path | str | None, download: bool, progress: bool
) -> dataset.Dataset:
    """Load the data set from the first folder that has it, or download it to the user cache."""
    folders = search_folders(source, data_dir)
    files = find(source, folders)
    if files is None and download:
        _download(source, folders, progress=progress)
        files = find(source, [user_cache(source.name)])
    if files is None:
        raise FileNotFoundError(_missing(source, folders))
    layout, where, contents = files
    train, test = layout.read(contents)
    _check_shapes(source, train, test, where)
    return dataset.from_splits(
        train,
        test,
        name=source.name,
        title=source.title + layout.title_suffix,
        class_names=source.class_names,
        source=where,
    )


def find(source: Source, folders: Sequence[Path]) -> tuple[Layout, str, formats.Contents] | None:
    """The first layout that exists, its origin in words, and its verified files; None if none."""
    for folder in folders:
        for layout in source.layouts:
            files = [_plain_or_gzipped(folder / layout.folder / name) for name in layout.files]
            if all(map(os.path.isfile, files)):
                where = layout.folder or " + ".join(file.name for file in files)
                return layout, where, _read_folder(source, layout, files)
            archive = folder / layout.archive
            if layout.archive and os.path.isfile(archive):
                return layout, layout.archive, _read_archive(source, layout, archive)
    return None


def fetch(remote: RemoteFile, folder: Path, *, progress: bool = False) -> Path:
    """The path of a file in `folder`, downloaded if it is missing or has another checksum.

    A download has a temporary name until it is verified.

    Raises:
        OSError: for no network, a broken connection, an HTTP error, or a wrong checksum.
    """
    import pooch

    by_http = pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16, timeout=_TIMEOUT)

    def downloader(url: str, output_file: str, caller: Any) -> None:
        with open(output_file, "wb") as file:
            by_http(url, _Bounded(file), caller)

    try:
        with _quiet(pooch.get_logger()):
            path = pooch.retrieve(
                remote.url,
                known_hash=f"md5:{remote.md5}",
                fname=remote.name,
                path=folder,
                downloader=downloader,
            )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; pooch's a ValueError
        raise OSError(
            f"Expected to download {remote.url} to '{folder}'; got "
            f"{type(error).__name__}: {error}. Try again, or fetch it by other means and put it "
            "there or in $REBASIN_DATA."
        ) from error
    return Path(path)


def verify(data: bytes, checksum: str, *, where: str) -> None:
    """Raise a ValueError unless `data` has the checksum, "md5:..." or "sha256:..."."""
    algorithm, _, expected = checksum.partition(":")
    got = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if got != expected:
        raise ValueError(
            f"Expected the content of '{where}' to have {algorithm} {expected}; got {got}. It is "
            "damaged or belongs to another data set: delete, move or replace it."
        )


def _plain_or_gzipped(path: Path) -> Path:
    return path if os.path.isfile(path) else path.with_name(f"{path.name}.gz")


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        return paths.read_bytes(path, most_bytes)
    except ValueError as error:
        raise ValueError(f"{error}. Delete, move or replace it.") from error
    except OSError as error:
        raise OSError(
            error.errno,
            f"Expected '{path}' to be a file that can be read; got {error.strerror}. Let it be "
            "read, or move it away.",
        ) from error


def _read_folder(source: Source, layout: Layout, files: Sequence[Path]) -> formats.Contents:
    contents: formats.Contents = {}
    for (name, checksum), path in zip(layout.files.items(), files, strict=True):
        where, data = str(path), _read(path, source.most_bytes)
        if path.name != name:
            data = formats.gunzip(data, most_bytes=source.most_bytes, where=where)
        if checksum:
            verify(data, checksum, where=where)
        contents[where] = data
    return contents


def _read_archive(source: Source, layout: Layout, path: Path) -> formats.Contents:
    checksums = {f"{layout.folder}/{name}": value for name, value in layout.files.items()}
    found = formats.read_tar(
        _read(path, source.most_bytes), checksums, most_bytes=source.most_bytes, where=str(path)
    )
    if missing := checksums.keys() - found:
        raise ValueError(
            f"Expected '{path}' to hold {', '.join(sorted(missing))}; got an archive without. "
            "Delete it and fetch it again."
        )
    for member, checksum in checksums.items():
        if checksum:
            verify(found[member], checksum, where=f"{path}/{member}")
    return {f"{path}/{member}": found[member] for member in checksums}


def _check_shapes(source: Source, train: formats.Split, test: formats.Split, where: str) -> None:
    for split, shape in ((train, source.train_shape), (test, source.test_shape)):
        if split.images.shape != shape or split.labels.shape != shape[:1]:
            raise ValueError(
                f"Expected {source.title} to have images of shape {shape} with a label each; got "
                f"{split.images.shape} and {split.labels.shape}, from {where}. Replace the files."
            )


def _download(source: Source, folders: Sequence[Path], *, progress: bool) -> None:
    try:
        for remote in source.remote_files:
            fetch(remote, user_cache(source.name), progress=progress)
    except OSError as error:
        raise OSError(f"{_missing(source, folders)} {error}") from error


def _missing(source: Source, folders: Sequence[Path]) -> str:
    layouts = (layout.archive or ", ".join(layout.files) for layout in source.layouts)
    urls = " and ".join(remote.url for remote in source.remote_files)
    unusable = ", ".join(f"'{path}'" for path in _unusable(source, folders))
    return (
        f"Expected the files of {source.title} ({' or '.join(layouts)}) in one of the folders "
        f"{', '.join(map(str, folders))}; none has a full set"
        f"{f', {unusable} cannot be read' if unusable else ''}. Fetch {urls} into one of them, set "
        "REBASIN_DATA to a folder that has them, or load it where there is a network."
    )


def _unusable(source: Source, folders: Sequence[Path]) -> Iterator[Path]:
    """Yield folders without access, and expected files that are something else."""
    for folder in folders:
        if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):
            yield folder
        for layout in source.layouts:
            plain = [folder / layout.folder / name for name in layout.files]
            gzipped = [path.with_name(f"{path.name}.gz") for path in plain]
            archives = [folder / layout.archive] if layout.archive else []
            for path in (*plain, *gzipped, *archives):
                if os.path.lexists(path) and not os.path.isfile(path):
                    yield path


class _Bounded:
    """A file that raises an error if it grows beyond `MOST_DOWNLOADED_BYTES`."""

    def __init__(self, file: BinaryIO):
        self.file = file

    def write(self, content: bytes) -> None:
        self.file.write(content)
        if self.file.tell() > MOST_DOWNLOADED_BYTES:
            raise OSError(
                f"Expected {MOST_DOWNLOADED_BYTES:,} bytes at most; the server sends more"
            )

    def flush(self) -> None:
        self.file.flush()


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
