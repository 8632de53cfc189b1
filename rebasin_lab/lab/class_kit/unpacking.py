"""Unpack a class kit into the store, beside what is there."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rebasin_lab import checks, paths
from rebasin_lab.lab.class_kit import archive, coding, making
from rebasin_lab.paper import profiles, store
from rebasin_lab.paper.networks import Experiment
from rebasin_lab.training import checkpoints


class Unpacked(NamedTuple):
    """What unpacking a kit has done.

    Attributes:
        num_written: files.
        num_there: files that were there before, which are left as they were.
        num_networks: that the kit's notebooks ask for; all are stored now.
        notebooks: of the kit.
        note: what else to know, or empty.
    """

    num_written: int
    num_there: int
    num_networks: int
    notebooks: tuple[str, ...]
    note: str = ""


@checks.arguments
def unpack(path: Path) -> Unpacked:
    """Put the networks and results of a kit into the store; no file that is there is replaced.

    Args:
        path: the kit.

    Raises:
        ValueError: for a file that is no kit, or is damaged or cut short; for a kit of other code
            or packages, whose networks this lab would not find. Nothing is written then.
        OSError: if it cannot be read, or something cannot be written.
    """
    runs = paths.runs_dir()
    runs.mkdir(parents=True, exist_ok=True)
    num_written = num_there = 0
    with (
        archive.opened(path) as kit,
        tempfile.TemporaryDirectory(prefix=".class-kit-", dir=runs) as folder,
    ):
        experiments, notebooks, made_with = _made_for(path, kit)
        _restore(path, kit, Path(folder))
        for name in kit.names:
            if os.path.lexists(runs / name):
                num_there += 1
                continue
            (runs / name).parent.mkdir(exist_ok=True)
            (Path(folder) / name).rename(runs / name)
            num_written += 1
    missing = [one.title for one in experiments if not store.is_stored(one)]
    if missing:
        raise ValueError(
            f"Expected all networks of '{path}' to be stored now; {missing[0]} is not: a file that "
            "was there before is damaged. Run 'rebasin-lab reproduce', which mends it."
        )
    return Unpacked(num_written, num_there, len(experiments), notebooks, _note(made_with))


def _made_for(
    path: Path, kit: archive.Kit
) -> tuple[list[Experiment], tuple[str, ...], dict[str, str]]:
    """Return the networks, notebooks and versions of a kit, after checking that it has them all."""
    try:
        settings, notebooks = kit.table["settings"], tuple(kit.table["notebooks"])
        trial = settings.get("trial", False)
        fields = {
            name: profiles.check_field(name, value)
            for name, value in settings.items()
            if name != "trial"
        }
        profile = profiles.get_profile(kit.table["profile"], trial=trial, **fields)
        experiments = making.experiments_of(notebooks, profile)
        made_with = dict(kit.table["versions"])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected '{path}' to be a class kit of this version of the lab; its table asks for "
            f"what there is not ({error})."
        ) from error
    for experiment in experiments:
        name = f"checkpoints/{store.path_of(experiment).name}"
        snapshots = (making.snapshot_name(name, each) for each in experiment.snapshot_epochs)
        if not {name, *snapshots} <= {*kit.names}:
            raise ValueError(
                f"Expected '{path}' to hold the networks that this lab asks for; it was made with "
                f"{_differences(made_with) or 'other code or settings of JAX'}. Install "
                "the same versions, or get a kit that was made with yours."
            )
    return experiments, notebooks, made_with


def _restore(path: Path, kit: archive.Kit, folder: Path) -> None:
    """Write the files of a kit into a folder as the store has them."""
    epochs: dict[str, list[int]] = {}
    for name in kit.names:
        match = archive.NETWORK.fullmatch(name)
        if match is None:
            paths.write_atomically(folder / name, kit.read(name))
        else:
            of_network = epochs.setdefault(f"checkpoints/{match[1]}.safetensors", [])
            of_network += [int(match[2])] if match[2] else []
    for name, snapshots in epochs.items():
        with _told_of(path, name):
            paths.write_atomically(folder / name, coding.from_planes(kit.read(name)))
            later, metadata = checkpoints.load(folder / name)
        for epoch in sorted(snapshots, reverse=True):
            snapshot = making.snapshot_name(name, epoch)
            with _told_of(path, snapshot):
                later = coding.from_differences(kit.read(snapshot), later)
                making.save_snapshot(folder / snapshot, later, metadata["config"], epoch)


@contextlib.contextmanager
def _told_of(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected '{name}' in the class kit '{path}' to be a network of the lab's: {error}"
        ) from error


def _note(made_with: dict[str, str]) -> str:
    """Return a note for versions that leave networks as they are and results not."""
    if differences := _differences(made_with):
        return f"The kit was made with {differences}: notebooks compute its results anew."
    return ""


def _differences(made_with: dict[str, str]) -> str:
    own = store.package_versions()
    return ", ".join(
        f"{name} {made_with.get(name, 'none')} (here {own.get(name, 'none')})"
        for name in sorted({*made_with, *own})
        if made_with.get(name) != own.get(name)
    )
