"""merge.yml: a merge as a file, in the shape of mergekit's.

Weights are all given, or none. What is given on the command line wins. Paths are read from the
working directory.
"""

from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from rebasin_lab import checks, paths, texts

MOST_BYTES = 1_000_000
EXAMPLE = """models:
  - model: a.safetensors
    parameters:
      weight: 0.5
  - model: b.safetensors
    parameters:
      weight: 0.5
merge_method: least-squares  # or average, many
parameters:
  torch: resnet:ResNet20
  data: images
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]
output: merged.safetensors
"""
_KEYS = ("models", "merge_method", "parameters", "output")


class _Loader(yaml.SafeLoader):
    """Plain values only, and each name of a mapping once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [
            name for name in names if not isinstance(name, Hashable) or names.count(name) > 1
        ]:
            raise ValueError(f"'{twice[0]}' is there twice")
        return super().construct_mapping(node, deep)


def read_config(place: str, options: Collection[str]) -> dict[str, Any]:
    """The arguments of `merge` that a file gives, by the names of the command line.

    Args:
        place: the file.
        options: of the command, that `parameters` may hold.

    Raises:
        ValueError: for a file that is none, unknown keys, or values of another kind.
        OSError: if it cannot be read.
    """
    path = Path(place).expanduser()
    try:
        content = yaml.load(paths.read_bytes(path, MOST_BYTES).decode(), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = texts.in_a_line(str(error), 300)
        raise ValueError(f"Expected '{path}' to be YAML; it cannot be read: {reason}.") from error
    content = _mapping(content, f"'{path}'", _KEYS)
    models = content.get("models")
    if not isinstance(models, list) or len(models) < 2:
        raise ValueError(
            f"Expected two or more models in '{path}', a list of '- model: FILE'; got "
            f"{checks.shortened(models)}."
        )
    arguments: dict[str, Any] = {"networks": [], "weights": []}
    for number, entry in enumerate(models, start=1):
        entry = _mapping(entry, f"model {number} in '{path}'", ("model", "parameters"))
        if not isinstance(entry.get("model"), str):
            raise ValueError(f"Expected the file of model {number} in '{path}', as 'model: FILE'.")
        arguments["networks"].append(entry["model"])
        inside = entry.get("parameters", {})
        inside = _mapping(inside, f"parameters of model {number} in '{path}'", ("weight",))
        arguments["weights"] += [_number(one, number, path) for one in inside.values()]
    if len(arguments["weights"]) not in (0, len(models)):
        raise ValueError(f"Expected a weight for each of the models in '{path}', or for none.")
    arguments = {name: value for name, value in arguments.items() if value}
    for key, name in {"merge_method": "method", "output": "to"}.items():
        if key in content:
            if not isinstance(content[key], str):
                raise ValueError(
                    f"Expected a text for '{key}' in '{path}'; got "
                    f"{checks.shortened(content[key])}."
                )
            arguments[name] = content[key]
    given = _mapping(content.get("parameters", {}), f"parameters in '{path}'", options)
    return arguments | given


def _mapping(value: Any, what: str, known: Collection[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"Expected names and values for {what}; got {checks.shortened(value)}.")
    checks.options(value, known, f"keys of {what}")
    return dict(value)


def _number(value: Any, number: int, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(
            f"Expected a number as weight of model {number} in '{path}'; got "
            f"{checks.shortened(value)}."
        )
    return float(value)
