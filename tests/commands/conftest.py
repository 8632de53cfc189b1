import pytest
from click.testing import CliRunner

import tiny
from rebasin_lab import cli


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command in a folder of its own, as (exit status, output)."""
    monkeypatch.chdir(tmp_path)

    def invoke(line):
        result = CliRunner().invoke(cli.main, line.split())
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return invoke


@pytest.fixture
def folder(tmp_path, run):
    """Files of a pair, of one with its units moved, and of others."""
    tiny.save_all(tmp_path)
    return tmp_path
