"""Type checks of the tests: beartype looks at every argument and result of ours.

jaxtyping binds the arguments of every call to their names, so that sizes can be compared between
arrays. Where no annotation is of an array there is nothing to compare, and beartype alone says the
same much faster. Import this before `rebasin_lab`.
"""

import functools
import inspect
import typing

import beartype
import jaxtyping

with_sizes = jaxtyping.jaxtyped
without_sizes = beartype.beartype(
    conf=beartype.BeartypeConf(
        violation_param_type=jaxtyping.TypeCheckError,
        violation_return_type=jaxtyping.TypeCheckError,
    )
)


def is_of_arrays(hint: object) -> bool:
    """Whether an annotation is of arrays; a text may be, so it counts as one."""
    if isinstance(hint, (str, list)) or getattr(hint, "__module__", "") == "jaxtyping":
        return True
    return any(map(is_of_arrays, typing.get_args(hint)))


def needs_sizes(fn) -> bool:
    """Whether sizes of arrays are known inside a call; `checks` compares annotations by itself."""
    if not inspect.isfunction(fn) or fn.__module__ == "rebasin_lab.checks":
        return True
    return any(map(is_of_arrays, fn.__annotations__.values()))


def jaxtyped(*, typechecker):
    """As `jaxtyping.jaxtyped`, where its import hook looks for it."""

    def decorate(fn):
        if needs_sizes(fn):
            return with_sizes(fn, typechecker=typechecker)
        checked = without_sizes(fn)

        @functools.wraps(fn)
        def call(*args, **kwargs):
            return (fn if jaxtyping.config.jaxtyping_disable else checked)(*args, **kwargs)

        return call

    return decorate


jaxtyping.jaxtyped = jaxtyped
