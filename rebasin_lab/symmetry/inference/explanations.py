"""Explanations, in words, of why an axis is free or fixed.

The links of an inference form a graph over atoms; an explanation is the shortest path from a
parameter's axis to the pin, or to the other parameters it moves with.
"""

import contextlib
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import jax

from rebasin_lab.symmetry.inference import dependence
from rebasin_lab.symmetry.inference.atoms import Atom, Atoms, Axis, Link, Pin, Step

Place = tuple[str, int]  # leaf path, axis
FOREIGN = ("site-packages", "dist-packages", "<")  # in a file's name: not the user's own code
MODULE = "module "  # begins a named scope of JAX that stands for a module of another framework
MAX_COMPANIONS = 4  # parameters named in one explanation


class Explainer:
    """Explains every axis of every parameter of one inference."""

    def __init__(self, atoms: Atoms, leaves: Mapping[Place, Axis]):
        self.atoms = atoms
        self.num_places = Counter(
            group
            for place, axis in leaves.items()
            for group in {site.group for site in dependence.sites(atoms, [(place, axis)])}
        )
        self.places = {id(atom): place for place, axis in leaves.items() for atom in axis}
        self.neighbours: dict[int, list[tuple[Atom, Link]]] = {}
        for link in atoms.links:
            self.neighbours.setdefault(id(link.left), []).append((link.right, link))
            self.neighbours.setdefault(id(link.right), []).append((link.left, link))
        self.sources: dict[int, set[int]] = {}
        for pin, atom in atoms.pinned_at:
            self.sources.setdefault(id(pin), set()).add(id(atom))

    def why_fixed(self, atom: Atom) -> str:
        """The step that pinned these units, and the equations between."""
        pin = self.atoms.find(atom).pin
        steps = self._way_to_pin(atom, pin)
        sentence = f"Fixed: {pin.reason}{_where(pin.step)}."
        if steps:
            sentence = f"{sentence[:-1]}; tied to that by {', '.join(steps)}."
        return sentence

    def why_free(self, atom: Atom, name: str, place: Place) -> str:
        """The other parameters that move together with these units of one axis."""
        sentence = f"Free: permutation {name} of {atom.size} units"
        companions = self._companions(atom, place)
        if not companions:
            return f"{sentence}; no other parameter moves with it."
        named = [
            f"axis {axis} of {path} ({', '.join(steps)})" if steps else f"axis {axis} of {path}"
            for (path, axis), steps in companions.items()
        ]
        more = self.num_places[self.atoms.find(atom)] - 1 - len(named)
        return f"{sentence}, together with {', '.join(named)}" + (
            f" and {more} more." if more > 0 else "."
        )

    def _way_to_pin(self, start: Atom, pin: Pin) -> list[str]:
        """The equations between an atom and the one pinned first."""
        sources = self.sources.get(id(pin), set())
        for atom, steps in self._reached_from(start):
            if id(atom) in sources:
                return step_names(steps, without=pin.step)
        return []

    def _companions(self, start: Atom, place: Place) -> dict[Place, list[str]]:
        """The nearest parameter axes that move with an atom, and the steps to each."""
        found: dict[Place, list[str]] = {}
        for atom, steps in self._reached_from(start):
            other = self.places.get(id(atom), place)
            if other != place:
                found.setdefault(other, step_names(steps))
            if len(found) == MAX_COMPANIONS:
                break
        return found

    def _reached_from(self, start: Atom) -> Iterator[tuple[Atom, list[Step | None]]]:
        """Every atom that moves when `start` does, nearest first, with the steps between."""
        ways: dict[int, list[Step | None]] = {id(start): []}
        queue = deque([start])
        while queue:
            atom = queue.popleft()
            way = ways[id(atom)]
            yield atom, way
            for neighbour, link in self.neighbours.get(id(atom), ()):
                # From a part to its whole, but not back: other parts move independently.
                if id(neighbour) not in ways and not (link.is_part and link.left is atom):
                    ways[id(neighbour)] = [*way, link.step]
                    queue.append(neighbour)


def no_ties(step: Step) -> str:
    """The condition under which units chosen by their values are free."""
    return (
        f"no two of the values that {step.equation.primitive.name} compares{_where(step)} are equal"
    )


def step_names(steps: Iterable[Step | None], without: Step | None = None) -> list[str]:
    """Names of primitives with file and line, each once."""
    known = [step for step in steps if step is not None and step is not without]
    return list(dict.fromkeys(f"{step.equation.primitive.name}{_where(step)}" for step in known))


def module_scope(name: str) -> contextlib.AbstractContextManager:
    """A scope in which explanations name a module in place of a line of code."""
    return jax.named_scope(f"{MODULE}{name}")


def _where(step: Step | None) -> str:
    """The module, or file and line of the user's code, of this step or its callers."""
    callers = step
    while callers is not None:
        modules = re.findall(f"{MODULE}([^/]*)", str(callers.equation.source_info.name_stack))
        if modules:
            return f" in {modules[-1]}"
        callers = callers.caller
    while step is not None:
        traceback = step.equation.source_info.traceback
        for frame in traceback.frames if traceback is not None else ():
            if "/ipykernel_" in frame.file_name:  # its file name means nothing
                return f" at line {frame.line_num} of a cell"
            if not any(part in frame.file_name for part in FOREIGN):
                return f" at {Path(frame.file_name).name}:{frame.line_num}"
        step = step.caller
    return ""
