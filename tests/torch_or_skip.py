"""Import this first in tests that need PyTorch: without it they are skipped, but never in CI."""

import importlib.util
import os

import pytest

if importlib.util.find_spec("torch") is None and not os.environ.get("CI"):
    pytest.skip("PyTorch is not installed; the extra [test] has it", allow_module_level=True)
