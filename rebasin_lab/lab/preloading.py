"""What a kernel of JupyterLab loads while its reader opens a notebook: an extension of IPython.

JAX is not among it, so that a first cell may still choose a device by environment variables, and
ipywidgets is not: JupyterLab would ask it for widgets on a subshell that it then deletes.
"""

import contextlib
import importlib
import threading

from IPython.core.interactiveshell import InteractiveShell

MODULES = ("matplotlib.figure", "scipy.optimize")  # a second, of three until a figure


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Load the modules on a thread; the first cell waits until it is done."""
    loading = threading.Thread(target=_load, daemon=True)

    def wait() -> None:
        loading.join()
        shell.events.unregister("pre_execute", wait)

    shell.events.register("pre_execute", wait)
    loading.start()


def _load() -> None:
    for name in MODULES:
        with contextlib.suppress(ImportError):  # the cell that needs it says so
            importlib.import_module(name)
