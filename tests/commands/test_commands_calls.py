"""Wrong calls: each is one paragraph that names what is wrong, and writes nothing."""

import re

import numpy as np
import pytest
from PIL import Image

import tiny

NET = "--model tiny:mlp --input 2x2x3"
M = "merge a.safetensors b.safetensors --to m.safetensors"

CALLS = {
    # files
    "check a.safetensors nowhere.safetensors": "There is no checkpoint 'nowhere.safetensors'",
    "check a.safetensors cut.safetensors": "'cut.safetensors' to be a whole safetensors file",
    "check a.safetensors text.safetensors": "'text.safetensors' to be a whole safetensors file",
    "check a.safetensors a.pkl": "A pickle may run any program, and is not read",
    "check a.safetensors a.pt": "With --torch-file",
    "check a.safetensors empty.msgpack": "to be written by flax.serialization",
    "check a.safetensors .": "a folder with one safetensors file",
    "check a.safetensors none.safetensors": "holds none",
    "check a.safetensors": "takes 2 values",
    "check a.safetensors b.safetensors --jsn x.json": "No such option",
    # architectures
    f"align a.safetensors wide.safetensors --to m.safetensors {NET}": (
        r"'up.weight' is \[12, 32\] in 'a.safetensors' and \[12, 33\]"
    ),
    "merge a.safetensors wide.safetensors --to m.safetensors --align none": "of one architecture",
    f"align wide.safetensors bad.safetensors --to m.safetensors {NET}": "'bad.weight' is in",
    # the network
    M: "Expected --torch or --model, the network: its computation says which units",
    "align a.safetensors b.safetensors --to m.safetensors": "Expected --torch or --model",
    f"{M} --model tiny:mlp": "Expected --input, the shape of one example",
    f"{M} --model tiny:mlp --torch tiny:mlp": "got both",
    f"{M} --model tiny --input 2x2x3": "as module:name",
    f"{M} --model tiny:mlpp --input 2x2x3": r"'mlpp' in the module 'tiny'.*mean mlp",
    f"{M} --model no_such_module:fn --input 3": "'no_such_module' raised ModuleNotFoundError",
    f"{M} --model broken:fn --input 3": "'broken' raised ZeroDivisionError",
    f"{M} --model tiny:MEAN --input 3": "to be a function",
    f"{M} --model tiny:mlp --input 5x5": "Expected a function that can be called",
    f"{M} --model tiny:mlp --input three": "the shape of one example without its batch",
    f"{M} {NET} --statistics bn": "no leaf has 'bn'",
    # data
    f"{M} {NET} --method least-squares": "Expected --data: least-squares looks at images",
    f"{M} {NET} --align activation": "Expected --data: activation looks at images",
    f"{M} {NET} --data nowhere.npz": "There is no 'nowhere.npz', which --data names",
    f"{M} {NET} --data a.safetensors": "a folder of images or an .npz file",
    f"{M} {NET} --data objects.npz": "to be a whole .npz of arrays of numbers",
    f"{M} {NET} --data unnamed.npz": "Expected one array 'images'",
    f"{M} {NET} --data labels.npz": "one whole number for each of 4 examples",
    f"{M} {NET} --data images": r"Expected images \(.png",
    f"{M} {NET} --data mixed": "some lie beside the folders",
    f"{M} {NET} --data data.npz --mean 1,2": "--mean with 1 number, or 3",
    f"{M} {NET} --data data.npz --std 0": "above 0 in --std",
    f"{M} {NET} --data data.npz --mean x": "numbers with commas between",
    f"{M} {NET} --data floats.npz --mean 1": "taken as it is",
    f"{M} {NET} --mean 1": "with --data, whose pixels they are for",
    f"{M} --model tiny:mlp --input 3x2x2 --data data.npz": "shape in --input, 3x2x2",
    f"line a.safetensors b.safetensors --to l.json {NET}": "Expected --data: the line",
    f"line a.safetensors b.safetensors --to l.json {NET} --data bare.npz": "Expected labels",
    f"line a.safetensors b.safetensors --to l.json {NET} --data data.npz --points 1": "--points",
    # places
    "merge a.safetensors b.safetensors": "and --to FILE",
    "merge a.safetensors --to m.safetensors": "two or more checkpoints",
    f"merge a.safetensors b.safetensors --to m.pt {NET}": "ends in .safetensors",
    f"merge a.safetensors b.safetensors --to taken.safetensors {NET}": "write over it by --force",
    f"merge a.safetensors b.safetensors --to a.safetensors {NET} --force": "is read by this",
    f"merge a.safetensors b.safetensors --to carded.safetensors {NET}": "there is 'carded.md'",
    f"merge a.safetensors b.safetensors --to a.pt/m.safetensors {NET}": "is no folder",
    f"line a.safetensors b.safetensors --to l.png {NET} --data data.npz": "ends in .json",
    # the recipe
    f"{M} {NET} --weights 1": "--weights with 2 numbers",
    f"{M} {NET} --weights 1,-1": "a sum above 0",
    f"{M} {NET} --weights 1,2 --method many": "no --weights with --method many",
    f"{M} {NET} --align none --method many": "aligns by weights",
    f"{M} {NET} --size 1": "Expected --size with --method least-squares",
    f"{M} {NET} --size 0": "--size",
    f"{M} {NET} --method mean": "'mean' is not one of",
    f"{M} {NET} --scratch s": "Expected --scratch with --method least-squares; got it with average",
    f"{M} {NET} --method least-squares --scratch a.pt": "Expected --scratch to be a folder",
    f"{M} {NET} --controls": "--controls with labelled --data",
    f"{M} --align none --controls": "Expected --controls with --method average or least-squares",
    f"{M} --method many {NET} --controls": "of aligned networks; got --method many",
    "merge --config nowhere.yml": "No such file",
    "merge --config unknown.yml": r"Expected keys of 'unknown.yml'.*got 'base_model'",
    "merge --config option.yml": "keys of parameters in 'option.yml'.*mean method|got 'method'",
    "merge --config twice.yml": "'models' is there twice",
    "merge --config half.yml": "a weight for each of the models",
    "merge --config tag.yml": "to be YAML; it cannot be read",
    "merge --config value.yml": "'fast' is not a valid integer",
    "merge --config one.yml": "two or more models",
}

MODELS = "models: [{model: a.safetensors}, {model: b.safetensors}]\n"


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """With files of every wrong kind."""
    folder = tmp_path_factory.mktemp("crowded")
    tiny.save_all(folder)
    whole = (folder / "a.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-4])
    (folder / "text.safetensors").write_text("no weights")
    (folder / "empty.msgpack").write_bytes(b"\xc1")
    for name in ("a.pkl", "a.pt", "taken.safetensors", "carded.md"):
        (folder / name).write_bytes(b"x")
    tiny.save(folder / "none.safetensors", {})
    tiny.save(folder / "bad.safetensors", tiny.weights(0, width=33) | {"bad.weight": np.ones(2)})
    (folder / "broken.py").write_text("1 / 0")
    (folder / "images").mkdir()
    (folder / "mixed" / "cat").mkdir(parents=True)
    for place in ("mixed/1.png", "mixed/cat/2.png"):
        Image.new("RGB", (2, 2)).save(folder / place)
    tiny.save_data(folder / "bare.npz", labels=False)
    tiny.save_data(folder / "floats.npz", dtype=np.float32)
    np.savez(folder / "objects.npz", images=np.array([{}]))
    np.savez(folder / "unnamed.npz", pictures=np.ones(3))
    np.savez(folder / "labels.npz", images=np.ones((4, 12)), labels=np.ones(3, int))
    for name, text in {
        "unknown": MODELS + "base_model: a.safetensors",
        "option": MODELS + "parameters: {method: average}",
        "twice": MODELS + MODELS,
        "half": "models: [{model: a, parameters: {weight: 1}}, {model: b}]",
        "tag": "models: !!python/object/apply:os.system [ls]",
        "value": MODELS + "output: m.safetensors\nparameters: {seed: fast}",
        "one": "models: [{model: a.safetensors}]",
    }.items():
        (folder / f"{name}.yml").write_text(text)
    return folder


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize(("line", "message"), CALLS.items(), ids=CALLS)
def test_a_wrong_call_is_a_paragraph_and_writes_nothing(crowded, run, monkeypatch, line, message):
    monkeypatch.chdir(crowded)
    before = contents(crowded)
    status, output = run(line)
    assert status in (1, 2)
    assert re.search(message, " ".join(output.split())), output
    assert "Error: " in output
    assert contents(crowded) == before
