"""JupyterLab on the notebooks, in the same kernel that runs them headlessly."""

import signal
import subprocess
import sys
from collections.abc import Sequence

from rebasin_lab import paths
from rebasin_lab.execution.kernels import KernelEnvironment


def run_lab(arguments: Sequence[str] = ()) -> int:
    """Open JupyterLab on the folder of notebooks, and wait until it is closed.

    Args:
        arguments: more options of `jupyter lab`, such as "--no-browser".

    Returns:
        Its exit status.
    """
    command = [sys.executable, "-m", "jupyterlab", *arguments]
    with KernelEnvironment(somebody_watches=True):
        server = subprocess.Popen(command, cwd=paths.notebooks_dir())  # its root, unless told
        # Ctrl-C is for the server, which asks whether it is meant; we wait for what it says.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return server.wait()
        finally:
            signal.signal(signal.SIGINT, before)
            server.terminate()
