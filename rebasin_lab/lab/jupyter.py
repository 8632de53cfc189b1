"""JupyterLab on the notebooks, and the kernel that it and headless runs have in common.

It imports nothing of `execution`, whose libraries take seconds: JupyterLab opens without them.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ipykernel.kernelspec import write_kernel_spec

from rebasin_lab import paths, processes


def run_lab(arguments: Sequence[str] = ()) -> int:
    """Open JupyterLab on the folder of notebooks, and wait until it is closed.

    It starts on `START.md`, a page of cards, unless an option names another folder or page.

    Args:
        arguments: more options of `jupyter lab`, such as "--no-browser".

    Returns:
        Its exit status.
    """
    command = [sys.executable, "-m", "jupyterlab", *_start(arguments), *arguments]
    mark = processes.new_mark()
    with processes.Reaper() as reaper, KernelEnvironment(reaper, interactive=True):
        reaper.add(mark)
        try:
            # Its root is the folder it is started in, unless an option sets another.
            server = subprocess.Popen(
                command, cwd=paths.notebooks_dir(), env=processes.marked(mark)
            )
            reaper.add(mark, server.pid)
            # Ctrl-C is for the server, which asks for confirmation; wait for its answer.
            with processes.signals_terminate(server) as came:
                status = server.wait()
        finally:  # terminals and kernels that it could not end
            processes.kill(mark)
            reaper.discard(mark)
        if came:
            return 128 + came[0]
        return status if status >= 0 else 128 - status


def _start(arguments: Sequence[str]) -> list[str]:
    """Return the option that opens the start page, unless others name another place."""
    elsewhere = any(name in each for each in arguments for name in _PLACES)
    return [] if elsewhere else [f"--LabApp.default_url=/lab/tree/{START_PAGE}"]


START_PAGE = "START.md"  # in the folder of notebooks

# Options that name another folder or page.
_PLACES = ("root_dir", "root-dir", "notebook_dir", "notebook-dir", "default_url")

# Defaults of JupyterLab's settings, below a user's own: Markdown is shown as a page; a notebook is
# saved with its dials, which then move without a kernel.
_SETTINGS = {
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
    "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True},
}

# A user's settings of a GPU's memory; then nothing is added to them.
_MEMORY = (
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
)


def _compiled_dir() -> Path:
    """Return the folder of programs compiled for this kind of processor by this version of XLA.

    The machine's name does not count: a CI runner has another each time. The files are executed, so
    the folder belongs to this user alone.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        known = ("model name", "flags", "Features", "CPU part")
        processor = sorted({line for line in lines if line.startswith(known)})
    except OSError:
        processor = [platform.processor()]
    kind = [platform.machine(), importlib.metadata.version("jaxlib"), *processor]
    folder = paths.compiled_dir() / hashlib.sha256("\n".join(kind).encode()).hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


class KernelEnvironment:
    """The environment of kernels, which inherit ours, while they run.

    Programs that XLA compiles are cached, most of all the many small ones of plain array code.

    Args:
        reaper: removes its folder if this process cannot.
        interactive: whether their figures are shown, too; several may run at once.
        shares_device: whether other processes compute beside a kernel, so that it should take a
            GPU's memory as it needs it. The user's own settings of that memory stay.

    Attributes:
        folder: of files that kernels need while they run.
    """

    folder: Path

    def __init__(
        self,
        reaper: processes.Reaper | None = None,
        *,
        interactive: bool = False,
        shares_device: bool = False,
    ):
        self._reaper = reaper
        self._shares = interactive or shares_device
        self._backend = {} if interactive else {"MPLBACKEND": "agg"}
        # Somebody who opens a notebook reads it before it runs.
        preloading = "--IPKernelApp.extra_extensions=rebasin_lab.lab.preloading"
        self._arguments = [preloading] if interactive else []

    def __enter__(self) -> None:
        # A `python3` kernel in the user's home, or even in this environment, may belong to another
        # Python. This one is this interpreter's, and comes first.
        self._kernels = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.folder = Path(self._kernels.name)
        if self._reaper is not None:
            self._reaper.add_folder(self.folder)
        write_kernel_spec(self.folder / "kernels" / "python3", extra_arguments=self._arguments)
        overrides = self.folder / "labconfig" / "default_setting_overrides.json"
        overrides.parent.mkdir()
        overrides.write_text(json.dumps(_SETTINGS))
        added = {
            **{
                name: os.pathsep.join(filter(None, [str(self.folder), os.environ.get(name)]))
                for name in ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH")
            },
            **self._backend,
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            # Kernels work in another folder, where a relative path means another place.
            "REBASIN_RUNS": str(paths.runs_dir()),
        }
        if data_dir := paths.data_dir():
            added["REBASIN_DATA"] = str(data_dir)
        if compiled := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
            if "://" not in compiled:  # a bucket
                added["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(compiled)
        else:
            added |= {
                # For this machine: another one may lack its instructions.
                "JAX_COMPILATION_CACHE_DIR": str(_compiled_dir()),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            }
        if self._shares and not any(name in os.environ for name in _MEMORY):
            # A kernel that grabs 75 % of a GPU leaves nothing for the next one.
            added["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        self._before = {name: os.environ.get(name) for name in added}
        os.environ.update(added)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._kernels.cleanup()
