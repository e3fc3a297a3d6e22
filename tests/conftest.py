"""What every test stands on: no telemetry, no network, a Prefect home of its own.

The environment is set before anything imports Prefect, MLflow or transformers, because all three
read it once, at import.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

FIXTURES = Path(__file__).parent / "fixtures"


def _isolate() -> None:
    home = tempfile.mkdtemp(prefix="longtail-prefect-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ.update(
        # A stray flow call outside the harness fails at once instead of starting a server.
        PREFECT_HOME=home,
        # Trainings of one test process wait for each other, not for those of others.
        LONGTAIL_SLOTS=home,
        PREFECT_SERVER_EPHEMERAL_ENABLED="false",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_LOGGING_TO_API_ENABLED="false",
        DO_NOT_TRACK="1",
        GX_ANALYTICS_ENABLED="false",
        MLFLOW_DISABLE_TELEMETRY="true",
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_TELEMETRY="1",
        TOKENIZERS_PARALLELISM="false",
        MPLBACKEND="Agg",
        # Tiny models are slower on many threads, and xdist's workers share the cores.
        OMP_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
    )
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE", "MLFLOW_TRACKING_URI"):
        os.environ.pop(name, None)


_isolate()

# No deadline: a shared machine may be slow. In CI the examples are the same every time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def prefect_harness() -> Iterator[None]:
    """A temporary Prefect server and database; takes about 20 s, once per test process."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def tickets() -> Path:
    """The invented support tickets: JSONL, about 400 texts, 20 long-tailed labels."""
    return FIXTURES / "tickets.jsonl"


@pytest.fixture
def tickets_week2() -> Path:
    """Next week's export of the same desk: new tickets, some old ones labelled otherwise."""
    return FIXTURES / "tickets_week2.jsonl"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A local S3 server, one request after the other: as S3 decides about conditional writes."""
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def s3_url(s3_server, tmp_path, monkeypatch) -> str:
    """The URL of an empty store on it, whose mirror is in a directory of this test."""
    import botocore.session

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("LONGTAIL_MIRROR", str(tmp_path / "mirror"))
    client = botocore.session.get_session().create_client("s3")
    bucket = f"bucket-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=bucket)
    client.close()
    return f"s3://{bucket}/store"
