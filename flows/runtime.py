"""The environment a command runs in: no telemetry, patient start-up, our logs in Prefect's."""

from __future__ import annotations

import logging
import os

_LOGGERS = ("longtail", "tasks", "data_contracts")
_DEFAULTS = {
    # Nothing is reported to anybody.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # A cold home needs more than the default 20 s for its first migrations.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(_LOGGERS),
    "TOKENIZERS_PARALLELISM": "false",
    # Threads that spin while they wait cost half of the speed on a machine that others use too.
    "GOMP_SPINCOUNT": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
}


def prepare_environment() -> None:
    """Set what the user has not set; call before Prefect or any heavy package is imported."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def show_progress() -> None:
    """Let our own loggers speak: Prefect attaches its handlers to them, but not their level."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
