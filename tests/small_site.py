"""A small run with all that a site must show, for tests: one executed notebook, made by hand."""

import base64
import json
import shutil
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from rebasin_lab import paths
from rebasin_lab.lab.site import static_widgets
from rebasin_lab.paper import claims

RUN = "small"
NOTEBOOK = "00_quickstart"
FIGURE = "samples"

COUNTER = """
let numMade = 0;
function render({ model, el }) {
  if (!model.isStatic || !el.isConnected) throw new Error("no page");
  const button = document.createElement("button");
  const show = () => { button.textContent = `count is ${model.get("count")}`; };
  button.addEventListener("click", () => {
    model.set("count", model.get("count") + 1);
    model.save_changes();
    model.send({ kind: "ignored" });
  });
  model.on("change:count", show);
  model.on("msg:custom", () => {});
  show();
  button.id = `counter-${numMade++}`;
  button.title = `${new Uint8Array(model.get("bytes").buffer)} ${model.get("text")}`;
  el.append(button);
}
export default { render };
"""
_BROKEN = """
export default { render() { throw new Error("broken on purpose"); } };
"""


def widget(esm, **state):
    """The saved model of an anywidget."""
    return {
        "model_name": "AnyModel",
        "model_module": "anywidget",
        "state": {
            "_esm": esm,
            "_css": ".rl-static-widget button { outline: 3px solid rgb(1, 2, 3); }",
            "_view_name": "AnyView",
            "layout": "IPY_MODEL_layout",
            **state,
        },
    }


def view(model_id, **data):
    return new_output("display_data", {static_widgets.VIEW: {"model_id": model_id}, **data})


def executed_notebook(png: bytes, *, broken: bool = False) -> nbformat.NotebookNode:
    picture = base64.b64encode(png).decode()
    other = base64.b64encode(png[:-1]).decode()  # no figure of the run
    place = f"{paths.runs_dir()}/{RUN}"
    counter = widget(COUNTER, count=3, text="</script><b>", bytes=None)
    counter["buffers"] = [{"path": ["bytes"], "encoding": "base64", "data": "AQID"}]
    models = {
        "counter": counter,
        "broken": widget(_BROKEN),
        "box": {"model_name": "VBoxModel", "state": {"children": ["IPY_MODEL_counter"]}},
        "slider": {"model_name": "FloatSliderModel", "state": {"value": 0.5}},
    }
    figure = '<figure style="margin:0"><img alt="digits" style="width:100%" src="data:image/png;'
    cells = [
        new_markdown_cell(
            "# Why?\n\nThe next is `01_symmetries`: $\\lambda \\in [0, 1]$.\n\n$$x^2$$"
        ),
        new_code_cell('profile: str = "quick"', metadata={"tags": ["parameters"]}),
        new_code_cell(f"run_dir = '{place}'", metadata={"tags": ["injected-parameters"]}),
        new_code_cell("print(place)", outputs=[new_output("stream", text=f"in {place}/figures\n")]),
        new_code_cell(
            "show()",
            outputs=[
                new_output("display_data", {"text/html": f'{figure}base64,{picture}"></figure>'}),
                new_output("display_data", {"text/html": f'{figure}base64,{other}"></figure>'}),
                new_output(
                    "display_data", {"text/html": f"<table><tr>{'<td>wide</td>' * 99}</table>"}
                ),
            ],
        ),
        new_code_cell("counter", outputs=[view("counter", **{"text/plain": "Counter()"})]),
        new_code_cell("box", outputs=[view("box")]),
        new_code_cell("slider", outputs=[view("slider", **{"text/plain": "FloatSlider()"})]),
        new_code_cell("dial", outputs=[view("slider", **{"text/html": "<p>a still picture</p>"})]),
    ]
    if broken:
        still = {"text/html": "<p>a picture in its place</p>"}
        cells.append(new_code_cell("broken", outputs=[view("broken", **still)]))
    state = {static_widgets.STATE: {"state": models, "version_major": 2, "version_minor": 0}}
    return new_notebook(cells=cells, metadata={"widgets": state})


def make_run(*, broken: bool = False) -> Path:
    """Write the run into the folder of runs; returns its own."""
    folder = paths.run_dir(RUN)
    drawn = folder / "figures" / NOTEBOOK
    drawn.mkdir(parents=True)
    for path in (paths.figures_dir() / NOTEBOOK).glob(f"{FIGURE}.*"):
        shutil.copy(path, drawn)
    notebook = executed_notebook((drawn / f"{FIGURE}.png").read_bytes(), broken=broken)
    nbformat.write(notebook, folder / f"{NOTEBOOK}.ipynb")
    measured = {"table1-mlp": [3498.0], "fig3-init": [0.5, 0.001, 0.002]}
    board = {
        "title": "quick profile: MNIST-5k, MLP, 3 pairs",
        "profile": {"name": "quick", "num_pairs": 3},
        "ended": "2026-11-22T21:07:31+00:00",
        "figures_dir": "figures",
        "planned": [NOTEBOOK],
        "notebooks": [{"notebook": NOTEBOOK, "error": ""}],
        "claims": [result.as_row() for result in claims.scoreboard("quick", measured)],
    }
    (folder / "scoreboard.json").write_text(json.dumps(board))
    return folder
