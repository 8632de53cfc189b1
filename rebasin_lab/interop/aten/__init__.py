"""Rules for the operators of PyTorch (ATen), as functions of JAX.

`RULES` maps the name of an operator to a function of the same arguments: "aten.view.default" with
an overload, "aten.add" for all. Types of PyTorch arrive as those of NumPy; devices and layouts do
not arrive. Each result is cast to the type that it had in PyTorch, so rules need not know how
PyTorch promotes. Operators without a rule are decomposed by PyTorch, as far as it can. Add a rule
of your own:

    interop.RULES["mylib.filter"] = lambda x, weight: ...

Inference reads the primitives that a rule uses, so a rule keeps axes apart where it can.
"""

from collections.abc import Callable

from rebasin_lab.interop.aten import (
    indexing,
    normalization,
    pointwise,
    products,
    recurrent,
    reductions,
    shapes,
    windows,
)

RULES: dict[str, Callable] = (
    pointwise.RULES
    | shapes.RULES
    | indexing.RULES
    | reductions.RULES
    | products.RULES
    | normalization.RULES
    | windows.RULES
    | recurrent.RULES
)


def rule_of(name: str) -> Callable | None:
    """The rule for an operator, such as "aten.add.Tensor"; None if there is none."""
    return RULES.get(name) or RULES.get(name.rpartition(".")[0])
