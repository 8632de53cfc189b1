"""The file of a class kit: a zip of data and one table of names, sizes and SHA-256s.

    class-kit.json                          what it was made for and with, and the table
    checkpoints/<id>.safetensors            a network at the end of training, in planes
    checkpoints/<id>.epoch5.safetensors     a snapshot, as differences to the next one
    records/<id>.safetensors                a cached result

Nothing in it runs, and no name leads out of the folder that it is unpacked into: a name is one of
these or the file is refused. Digests find damage; they do not say who made a kit.
"""

import contextlib
import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rebasin_lab import checks, paths, strict_json, texts

MOST_BYTES = 60_000_000  # that a kit should have, to be handed to thirty people
MADE_BY = "rebasin-lab class-kit"
TABLE = "class-kit.json"
FORMAT = 1

NETWORK = re.compile(r"checkpoints/([0-9a-f]{24})(?:\.epoch([1-9][0-9]{0,8}))?\.safetensors")
_RECORD = re.compile(r"records/[0-9a-f]{32}\.safetensors")

# Of one that is read, which may be anybody's: far above those of a kit.
_MOST_FILES = 10_000
_MOST_ENTRY_BYTES = 200_000_000
_MOST_KIT_BYTES = 2_000_000_000

# The same content gives the same bytes.
_TIME = (1980, 1, 1, 0, 0, 0)


def write(target: Path, made_for: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
    """Write a kit, atomically.

    Args:
        target: the file.
        made_for: what its table says besides names, sizes and digests; JSON-ready.
        contents: by name.

    Raises:
        ValueError: for a name that no file of a kit has.
        OSError: if it cannot be written.
    """
    if strange := [name for name in contents if not is_name(name)]:
        raise ValueError(f"Expected names of a store's files; got {checks.shortened(strange[0])}.")
    files = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(contents.items())
    }
    table = {"made_by": MADE_BY, "format": FORMAT, **made_for, "files": files}
    written = {TABLE: json.dumps(table, indent=1).encode(), **dict(sorted(contents.items()))}
    with (
        paths.written_atomically(target, sum(map(len, written.values()))) as file,
        zipfile.ZipFile(file, "w") as packed,
    ):
        for name, content in written.items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, content, compresslevel=9)


def is_name(name: str) -> bool:
    """Return True for a name that a file of a kit may have."""
    return bool(NETWORK.fullmatch(name) or _RECORD.fullmatch(name))


class Kit:
    """A kit that is open.

    Attributes:
        table: all that its table says.
    """

    def __init__(self, path: Path, packed: zipfile.ZipFile):
        self._path, self._packed = path, packed
        entries = packed.infolist()
        names = [entry.filename for entry in entries]
        if TABLE not in names:
            raise ValueError(f"Expected '{path}' to be a class kit; it has no '{TABLE}'.")
        strange = [name for name in names if name != TABLE and not is_name(name)]
        if strange or len(set(names)) != len(names) or len(names) > _MOST_FILES:
            what = f"a file {checks.shortened(strange[0])}" if strange else "too many files"
            raise ValueError(f"Expected '{path}' to be a class kit; it has {what}, which none has.")
        sizes = [entry.file_size for entry in entries]
        if max(sizes) > _MOST_ENTRY_BYTES or sum(sizes) > _MOST_KIT_BYTES:
            raise ValueError(
                f"Expected '{path}' to be a class kit; it unpacks to {sum(sizes):,} bytes, it says."
            )
        self.table = self._table()
        if self.names != sorted(name for name in names if name != TABLE):
            raise ValueError(f"{self._damaged}: its table names other files than it has.")

    @property
    def names(self) -> list[str]:
        """The names of its files, sorted."""
        return sorted(self.table["files"])

    def read(self, name: str) -> bytes:
        """Return the content of a file, after checking its digest.

        Raises:
            ValueError: if it is damaged.
        """
        content = self._content(name)
        expected = self.table["files"][name]
        if hashlib.sha256(content).hexdigest() != expected["sha256"]:
            raise ValueError(f"{self._damaged}: the SHA-256 of '{name}' is not the one noted.")
        return content

    def _table(self) -> dict[str, Any]:
        try:
            table = strict_json.parsed(self._content(TABLE))
        except ValueError as error:
            reason = texts.in_a_line(str(error), 200)
            raise ValueError(f"{self._damaged}: its table cannot be read ({reason}).") from error
        match table:
            case {"made_by": str(maker), "format": int(version), "files": dict(files)} if (
                maker == MADE_BY
                and all(
                    isinstance(each, dict) and isinstance(each.get("sha256"), str)
                    for each in files.values()
                )
            ):
                if version == FORMAT:
                    return table
                raise ValueError(
                    f"Expected '{self._path}' to be a class kit of format {FORMAT}; it is one of "
                    f"format {version}. Use the version of rebasin_lab that made it."
                )
        raise ValueError(f"Expected '{self._path}' to be a class kit; its table is not one's.")

    def _content(self, name: str) -> bytes:
        try:
            return self._packed.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as why:
            reason = texts.in_a_line(str(why), 200)
            raise ValueError(f"{self._damaged}: '{name}' cannot be read ({reason}).") from why

    @property
    def _damaged(self) -> str:
        return f"The class kit '{self._path}' is damaged, copy or download it again"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Kit]:
    """Open a kit.

    Raises:
        ValueError: for a file that is no kit, or one that is cut short or damaged.
        OSError: if there is no such file, or it cannot be read.
    """
    if path.exists() and not path.is_file():  # reading a pipe would wait
        raise ValueError(f"Expected '{path}' to be a file, a class kit; it is none.")
    try:
        packed = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"Expected '{path}' to be a class kit, a zip file; it is none, or it was cut short. "
            "Copy or download it again."
        ) from error
    with packed:
        yield Kit(path, packed)
