"""The environment a command runs in: no telemetry, patient start-up, our logs in Prefect's."""

from __future__ import annotations

import logging
import os

from longtail.errors import LongtailError

_LOGGERS = ("longtail", "tasks", "flows", "data_contracts")
_DEFAULTS = {
    # Nothing is reported to anybody.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A cold home needs more than the default 20 s for its first migrations.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(_LOGGERS),
    "TOKENIZERS_PARALLELISM": "false",
    # Threads that spin while they wait cost half of the speed on a machine that others use too.
    "GOMP_SPINCOUNT": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
}

_TOLD_STATES = ("Finished in state Failed(", "Finished in state Quarantined(")
_NO_SERVER = (
    "Failed to reach API",
    "Found incompatible versions",
    "Timed out while attempting to connect to ephemeral Prefect API server",
    "Unable to find an available port",
)


def prepare_environment() -> None:
    """Set what the user has not set; call before Prefect or any heavy package is imported."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def show_progress() -> None:
    """Call it first in a flow: our own loggers speak, and errors are told in words.

    Prefect attaches its handlers to our loggers, but does not set their level.
    """
    from prefect.runtime import deployment

    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    told = ErrorsInWords(caller_tells=deployment.id is None)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        for old in [one for one in logger.filters if isinstance(one, ErrorsInWords)]:
            logger.removeFilter(old)
        logger.addFilter(told)


def in_words(error: BaseException | None) -> str | None:
    """The sentence for the user where there is one; None for what needs a traceback.

    A full disk, a directory that may not be written to and the like come as an OSError with a
    cause that the operating system names.
    """
    if isinstance(error, LongtailError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        where = "a file could not be written or read" if error.filename is None else error.filename
        return f"{where}: {error.strerror}; check --store, --out and the disk, then start again"
    return None


def lost_server(error: BaseException) -> str | None:
    """The sentence for a Prefect server that is not there, None for another error."""
    said = str(error).partition("\n")[0].rstrip(".")
    # Told by name, so that an error on the way to an import needs neither package.
    broken = type(error).__module__.partition(".")[0] in {"httpx", "httpcore"}
    if not broken and not (isinstance(error, RuntimeError) and said.startswith(_NO_SERVER)):
        return None
    return (
        f"Prefect's server: {said}. Is the one up that PREFECT_API_URL, or Prefect's profile, "
        "names? Without a name Longtail starts its own. What the run had done by then stands"
    )


class ErrorsInWords(logging.Filter):
    """Takes the tracebacks of errors that have a sentence out of Prefect's log.

    Prefect logs an error twice with its traceback, in the task and in the flow, and twice more in
    the states. What is left is the sentence, once, and only where nobody else tells it.
    ``PREFECT_LOGGING_LEVEL=DEBUG`` leaves everything in.

    Args:
        caller_tells: whether the flow was called by something that shows the error, such as the
            command line; the runs of a deployment are not.
    """

    def __init__(self, *, caller_tells: bool) -> None:
        super().__init__()
        self._caller_tells = caller_tells
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record, or drop it."""
        if logging.getLogger("prefect").isEnabledFor(logging.DEBUG):
            return True
        error = record.exc_info[1] if record.exc_info else None
        if type(error).__name__ == "FailedRun":
            return False  # a run that is Blocked, say: no exception, and its state has told why
        sentence = in_words(error)
        if sentence is not None:
            known = sentence in self._told
            self._told.add(sentence)
            record.msg, record.args, record.exc_info = sentence, (), None
            return not (known or self._caller_tells)
        if self._told and str(record.msg).startswith(_TOLD_STATES):
            record.msg, record.args = str(record.msg).partition("(")[0], ()
        return True
