"""Errors and warnings of a command, as paragraphs without a traceback."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import click

from rebasin_lab import paths, texts

# A missing module is here for the extras, whose names these errors say.
_CORRECTABLE = (ValueError, OSError, paths.LockedError, ModuleNotFoundError)


@contextlib.contextmanager
def as_paragraphs() -> Iterator[None]:
    """Turn an error that the reader can correct into a paragraph, not a traceback."""
    try:
        yield
    except BrokenPipeError:  # the reader has gone; click ends quietly
        raise
    except _CORRECTABLE as error:
        raise click.ClickException(str(error)) from error


class Command(click.Command):
    """A command of the library."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; warnings are lines on the error stream."""
        with as_paragraphs(), warnings.catch_warnings():
            warnings.showwarning = _show
            return super().invoke(ctx)


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {texts.plain(str(message))}", err=True)
