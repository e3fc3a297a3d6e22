"""From an annotation tool's webhook to a retrain on what it was about, on a real server."""

from __future__ import annotations

import http.server
import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import uvicorn
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.config import WatchConfig
from flows.receive import create_app
from flows.watch import look_once, outcome
from tasks.landed import send_event
from tasks.receiving import Receiver, ReceiverConfig

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "deployments" / "profiles" / "smoke.yaml"
TICKETS = ROOT / "tests" / "fixtures" / "tickets.jsonl"
ON_ANNOTATIONS = "retrain-on-annotations"


class _Tool(http.server.BaseHTTPRequestHandler):
    """An annotation tool whose project holds the tickets."""

    def do_GET(self):
        content = TICKETS.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def tool():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Tool) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/tickets.jsonl"
        server.shutdown()
        thread.join()


@pytest.fixture
def quick_retrains(served):
    """The event's retrain with the settings of the smoke profile; put back afterwards."""
    (automation,) = [
        one for one in served.api("/automations/filter", {})
        if "annotations.landed" in one["trigger"].get("expect", ())
    ]  # fmt: skip
    smoke = yaml.safe_load(SMOKE.read_text(encoding="utf-8"))
    smoke.pop("deployment", None)
    smoke["training"] |= {"epochs": 1}
    quick = json.loads(json.dumps(automation))
    config = quick["actions"][0]["parameters"]["config"]
    quick["actions"][0]["parameters"]["config"] = {**smoke, **config}
    served.api(f"/automations/{automation['id']}", _core(quick), method="PUT")
    yield
    served.api(f"/automations/{automation['id']}", _core(automation), method="PUT")


def _core(automation):
    left_out = {"id", "created", "updated"}
    return {key: value for key, value in automation.items() if key not in left_out}


def watch_config(served, name, inbox, **settings):
    settings = {"inbox": str(inbox), "settle_seconds": 0, "min_annotations": 1, **settings}
    return WatchConfig.model_validate(
        {"name": name, "store": str(served.home / "longtail-store"), "watch": settings}
    )


def runs_of(served, name):
    runs = served.runs(ON_ANNOTATIONS)
    return [run for run in runs if run["parameters"]["config"]["name"] == name]


def wait_for(found, patience=60.0):
    deadline = time.monotonic() + patience
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return value


def test_a_webhook_ends_in_a_retrain_on_the_new_data(
    served, tool, quick_retrains, tmp_path, monkeypatch
):
    monkeypatch.setenv("DESK_SECRET", "secret")
    receiver = ReceiverConfig.model_validate({
        "inbox": str(tmp_path / "inbox"), "state": str(tmp_path / "state"), "debounce_seconds": 0,
        "sources": {"desk": {"kind": "json", "secret": "DESK_SECRET", "url": tool}},
    })  # fmt: skip
    app = uvicorn.Server(uvicorn.Config(create_app(Receiver(receiver)), port=0, log_level="error"))
    thread = threading.Thread(target=app.run)
    thread.start()
    try:
        wait_for(lambda: app.started)
        port = app.servers[0].sockets[0].getsockname()[1]
        headers = {"Authorization": "Bearer secret"}
        url = f"http://127.0.0.1:{port}/webhooks/desk"
        assert httpx.post(url, headers=headers, json={"action": "done"}).status_code == 202
        wait_for((tmp_path / "inbox" / "desk.jsonl").exists)
    finally:
        app.should_exit = True
        thread.join()
    config = watch_config(served, "webhook", tmp_path / "inbox")
    parameters = {"config": config.model_dump(mode="json")}
    watched = served.wait(served.run("watch", parameters), "Landed", timeout=120)
    assert "annotations was announced" in watched["state"]["message"]
    (run,) = wait_for(lambda: runs_of(served, "webhook"))
    path = run["parameters"]["config"]["data"]["path"]
    assert Path(path) == served.home / "longtail-store" / "webhook" / "inbox" / "000001"
    served.wait(run["id"], "Promoted", "Blocked", timeout=240)
    assert (Path(path) / ".taken.json").is_file()
    assert outcome(look_once(config, datetime.now(UTC))) == "Nothing new"


def test_what_came_while_the_server_was_down_is_announced_once(served, tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    # Too little to train on: the run that hears of it ends at once.
    (inbox / "a.jsonl").write_text(json.dumps({"id": "1", "text": "one", "labels": ["x"]}) + "\n")
    config = watch_config(served, "offline", inbox)
    now = datetime.now(UTC)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert outcome(look_once(config, now)) == "Waiting"
    with temporary_settings({PREFECT_API_URL: served.url}):
        (event,) = look_once(config, now).delivered
        assert look_once(config, now).delivered == ()
        send_event(event)  # as a watch does that was killed before it noted the delivery
    wait_for(lambda: runs_of(served, "offline"))
    time.sleep(3)
    (run,) = runs_of(served, "offline")
    assert run["parameters"]["config"]["data"]["path"].endswith("offline/inbox/000001")
    wanted = {"filter": {"id": {"id": [str(event.id)]}}}
    assert len(served.api("/events/filter", wanted)["events"]) == 1
    served.wait(run["id"], timeout=120)
