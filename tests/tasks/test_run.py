from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from flows.config import RetrainConfig
from longtail import storage
from longtail.errors import ConfigError
from tasks.run import PROCESS, open_run, read_run


def test_a_run_is_read_back_from_where_it_lies_now(tmp_path):
    run = open_run("m", tmp_path / "store", str(tmp_path / "out"), RetrainConfig())
    (tmp_path / "out").rename(tmp_path / "moved")
    found = read_run(tmp_path / "moved")
    assert found == run.model_copy(update={"directory": tmp_path / "moved"})


def test_an_earlier_run_is_kept_under_the_next_free_name(tmp_path):
    ids = [
        open_run("m", tmp_path / "store", str(tmp_path / "out"), RetrainConfig()).id
        for _ in range(3)
    ]
    kept = [read_run(tmp_path / name).id for name in ("out.1", "out.2", "out")]
    assert kept == ids


def test_a_directory_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty and not an earlier run"):
        open_run("m", tmp_path / "store", str(tmp_path), RetrainConfig())


def test_what_is_no_run_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"no run\.json"):
        read_run(tmp_path)


def test_a_directory_that_another_process_writes_to_is_left_alone(tmp_path):
    run = open_run("m", tmp_path / "store", str(tmp_path / "out"), RetrainConfig())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        process = {"pid": other.pid, "host": socket.gethostname()}
        storage.write_json(run.directory / PROCESS, process)
        with pytest.raises(ConfigError, match="another run is writing here"):
            open_run("m", tmp_path / "store", str(tmp_path / "out"), RetrainConfig())
        other.kill()
    assert read_run(run.directory) == run
    assert open_run("m", tmp_path / "store", str(tmp_path / "out"), RetrainConfig()).id != run.id
