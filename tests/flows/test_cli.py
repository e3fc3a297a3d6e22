"""The command line: exit codes, help that answers at once, and errors in a sentence."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from flows import cli, console
from flows.cli import main
from flows.runtime import ErrorsInWords, in_words, prepare_environment
from longtail.errors import ConfigError, DataError, StoreError

ROOT = Path(__file__).parents[2]
HEAVY = ("prefect", "torch", "transformers", "pandas", "numpy", "pyarrow", "mlflow", "pydantic",
         "yaml", "rich", "sklearn", "great_expectations")  # fmt: skip


def raising(error):
    def run(*_, **__):
        raise error

    return run


# ── help ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arguments", [["--help"], ["retrain", "--help"], ["--version"]])
def test_help_answers_at_once_and_imports_nothing_heavy(arguments):
    watch = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules))))\n"
        f"from flows.cli import main\nmain({arguments!r})"
    )
    before = os.times().children_user
    done = subprocess.run(
        [sys.executable, "-c", watch], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert os.times().children_user - before < 1.0
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize(
    "command", ["demo", "retrain", "predict", "compare", "report", "promote", "rollback"]
)
def test_every_command_explains_itself_and_the_exit_codes(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])

    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert said.startswith(f"usage: longtail {command}")
    assert "0 promoted" in said
    assert "3 blocked" in said


def test_an_audit_ends_with_zero_whatever_it_found(capsys):
    with pytest.raises(SystemExit):
        main(["audit", "--help"])

    said = capsys.readouterr().out
    assert said.startswith("usage: longtail audit")
    assert "0 done, whatever was found, 1 error, 2 bad usage" in said
    assert "blocked" not in said


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])

    said = capsys.readouterr().out
    commands = [
        "demo",
        "retrain",
        "predict",
        "compare",
        "audit",
        "taxonomy",
        "report",
        "promote",
        "rollback",
    ]
    assert all(f"    {name} " in said for name in commands)


# ── exit codes ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train"],
        ["retrain", "--date", "x"],
        ["predict"],
        ["rollback"],
        ["promote", "runs/week48"],
        ["rollback", "--reason", "x", "--to", "0"],
        ["demo", "--texts", "many"],
    ],
)
def test_bad_usage_exits_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert "usage: longtail" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no such setting"), 2),
        (DataError("tickets.csv, row 3: no text"), 1),
        (StoreError("the store is locked"), 1),
        (PermissionError(errno.EACCES, "Permission denied", "/srv/store"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_one_line_on_standard_error(monkeypatch, capsys, error, code):
    monkeypatch.setattr(console, "run_retrain", raising(error))

    assert main(["retrain", "--data", "tickets.csv"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("longtail: ")
    assert (in_words(error) or "interrupted") in said.err


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to reach API at http://127.0.0.1:9/api/"),
        RuntimeError("Found incompatible versions: client: 3.8.8, server: 2.1."),
        httpx.ConnectError("[Errno 111] Connection refused"),
    ],
)
def test_a_server_that_is_not_there_is_told_in_a_sentence(monkeypatch, capsys, error):
    monkeypatch.setattr(console, "run_retrain", raising(error))

    assert main(["retrain", "--data", "tickets.csv"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(error).rstrip(".") in said
    assert "PREFECT_API_URL" in said


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch):
    for error in (ZeroDivisionError("ours"), OSError("raised by a library"), RuntimeError("ours")):
        monkeypatch.setattr(console, "run_retrain", raising(error))
        with pytest.raises(type(error), match=r"ours|library"):
            main(["retrain", "--data", "tickets.csv"])


@pytest.mark.parametrize("code", [cli.EXIT_PROMOTED, cli.EXIT_BLOCKED])
def test_the_flows_outcome_is_the_exit_code(monkeypatch, code):
    given = []
    monkeypatch.setattr(console, "run_retrain", lambda config: given.append(config) or code)

    arguments = ["retrain", "--data", "x.csv", "--store", "s", "--out", "o", "--name", "desk"]
    assert main([*arguments, "--set", "training.epochs=9"]) == code
    (config,) = given
    assert (config.data.path, config.store, config.out, config.name) == ("x.csv", "s", "o", "desk")
    assert config.training.epochs == 9


def test_the_other_commands_hand_on_what_was_said(monkeypatch):
    seen = {}
    monkeypatch.setattr(console, "run_predict", lambda config: seen.update(predict=config) or 0)
    monkeypatch.setattr(console, "run_audit", lambda config: seen.update(audit=config) or 0)
    monkeypatch.setattr(console, "run_report", lambda run: seen.update(report=run) or 0)
    monkeypatch.setattr(console, "run_rollback", lambda **asked: seen.update(rollback=asked) or 0)

    assert main(["predict", "--data", "x.csv", "--out", "y.csv"]) == 0
    assert main(["audit", "--data", "x.csv", "--set", "audit.folds=3"]) == 0
    assert main(["report", "runs/week48"]) == 0
    assert main(["rollback", "--reason", "why", "--to", "3"]) == 0
    assert (seen["predict"].data.path, seen["predict"].out) == ("x.csv", "y.csv")
    assert (seen["audit"].data.path, seen["audit"].audit.folds) == ("x.csv", 3)
    assert (seen["audit"].model_name, seen["audit"].directory) == ("x", "audit")
    assert seen["report"] == "runs/week48"
    assert seen["rollback"] == {"name": None, "store": None, "to": 3, "by": None, "reason": "why"}


@pytest.mark.parametrize("arguments", [["--data", "absent.csv"], []])
@pytest.mark.parametrize("command", ["retrain", "audit"])
def test_what_cannot_be_done_is_said_before_a_flow_starts(command, arguments, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, f"flows.{command}", None)  # an import of it would fail

    assert main([command, *arguments]) in (1, 2)
    assert capsys.readouterr().err.startswith("longtail: ")


def test_whoever_has_no_name_must_give_one(monkeypatch, capsys):
    monkeypatch.setattr("getpass.getuser", raising(KeyError("getpwuid(): uid not found: 4711")))

    assert main(["rollback", "--reason", "why"]) == 2
    assert "--by NAME" in capsys.readouterr().err


def test_a_report_can_be_written_once_more(week_one, tmp_path, capsys):
    import shutil

    run = shutil.copytree(week_one.directory, tmp_path / "run")
    page = (run / "report.html").read_text(encoding="utf-8")
    (run / "report.html").unlink()

    assert main(["report", str(run)]) == 0
    assert str(run / "report.html") in capsys.readouterr().out
    assert (run / "report.html").read_text(encoding="utf-8") == page


def test_a_report_of_something_that_is_no_run_is_refused(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


# ── the environment ──────────────────────────────────────────────────────────────────────────


def test_what_the_user_has_set_stays_and_nothing_is_reported(monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "7")
    for name in ("DO_NOT_TRACK", "GX_ANALYTICS_ENABLED", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)

    prepare_environment()

    assert os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] == "7"
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


# ── Prefect's log ────────────────────────────────────────────────────────────────────────────


def logged(told, error=None, message="Task run failed with exception: %r"):
    """A record as Prefect makes it, through the filter; None where it is dropped."""
    raised = (type(error), error, None) if error else None
    arguments = (error,) if error else ()
    record = logging.LogRecord("prefect.task_runs", 40, "engine.py", 1, message, arguments, raised)
    return record if told.filter(record) else None


def test_a_caller_that_tells_errors_leaves_the_log_without_them():
    told = ErrorsInWords(caller_tells=True)

    assert logged(told, DataError("x.csv: empty")) is None


def test_a_deployments_log_says_an_error_once_and_without_its_traceback():
    told = ErrorsInWords(caller_tells=False)
    error = DataError("x.csv: 50% of the rows are bad")

    first, second = logged(told, error), logged(told, error)

    assert first.getMessage() == "x.csv: 50% of the rows are bad"
    assert first.exc_info is None
    assert second is None


def test_a_state_does_not_repeat_the_error():
    told = ErrorsInWords(caller_tells=True)
    state = "Finished in state Failed('Task run encountered an exception DataError: x.csv: empty')"
    before = logged(told, message=state)
    logged(told, DataError("x.csv: empty"))

    assert before.msg == state
    assert logged(told, message=state).getMessage() == "Finished in state Failed"


def test_the_traceback_of_a_defect_stays_in_the_log():
    record = logged(ErrorsInWords(caller_tells=True), ZeroDivisionError("ours"))

    assert record.exc_info[0] is ZeroDivisionError


def test_whoever_debugs_sees_everything():
    prefect = logging.getLogger("prefect")
    level = prefect.level
    prefect.setLevel(logging.DEBUG)
    try:
        record = logged(ErrorsInWords(caller_tells=True), DataError("x.csv: empty"))
    finally:
        prefect.setLevel(level)

    assert record.exc_info[0] is DataError


def test_a_state_of_ones_own_is_not_told_as_an_exception():
    from prefect.exceptions import FailedRun

    assert logged(ErrorsInWords(caller_tells=False), FailedRun("the run's directory")) is None
