"""What a team is told: real automations of a real server, received by a server of the test."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
PROFILE = """
deployment:
  notifications:
    urls: ["json://127.0.0.1:${LONGTAIL_TEST_PORT}/told?cto=30&rto=30"]
    on: [blocked, failed]
"""


class Inbox(http.server.ThreadingHTTPServer):
    """Keeps the messages that apprise posts."""

    def __init__(self, profile: Path) -> None:
        self.messages: list[dict[str, str]] = []
        self.profile = profile
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def environment(self) -> dict[str, str]:
        """What the profile's URL is made of."""
        return {"LONGTAIL_TEST_PORT": str(self.server_port)}

    def about(self, words: str, *, within: float = 60.0) -> list[dict[str, str]]:
        """Messages that contain the words, as soon as there is one."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if found := [one for one in self.messages if words in one["title"] + one["message"]]:
                return found
            time.sleep(0.2)
        return []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.messages.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_) -> None:
        """Nothing is printed."""


@pytest.fixture(scope="module")
def inbox(served, tmp_path_factory) -> Iterator[Inbox]:
    """A channel named by a profile, whose port stands in the environment; gone afterwards."""
    profile = tmp_path_factory.mktemp("profile") / "profile.yaml"
    profile.write_text(PROFILE)
    with Inbox(profile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = served.local("setup", "--profile", str(profile), **server.environment)
        assert done.returncode == 0, done.stdout
        yield server
        server.shutdown()
    done = served.local("setup")
    assert "Removed: an automation could not act, blocked, failed" in done.stdout
    assert served.api("/block_documents/filter", {}) == []


def test_a_blocked_run_is_told_once_with_its_reason_and_a_link(served, inbox):
    floor = {"gate": {"floors": {"micro_f1": 0.999}, "draws": 200, "min_test_texts": 20}}
    number = served.run("retrain-manual", served.smoke("told", **floor))
    run = served.wait(number, "Blocked", timeout=180)
    (message,) = inbox.about("retrain-told")
    assert message["title"] == "Longtail: retrain-told blocked"
    assert run["state"]["message"] in message["message"]
    assert f"{served.page}/runs/flow-run/{number}" in message["message"]


def test_an_event_without_its_path_starts_nothing_and_is_told(served, inbox):
    before = [run["id"] for run in served.runs("retrain-on-annotations")]
    served.emit("annotations.landed", "longtail.inbox.lacking", {"name": "lacking"})
    (message,) = inbox.about("retrain on annotations")
    assert message["title"] == "Longtail: an automation could not act"
    assert served.page in message["message"]
    assert [run["id"] for run in served.runs("retrain-on-annotations")] == before


def test_looks_at_the_inbox_do_not_pile_up_while_no_worker_is_there(served):
    later = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2999-01-01T00:00:00Z"}}
    number = served.deployment("watch")["id"]
    run = served.api(f"/deployments/{number}/create_flow_run", {"state": later})
    late = {"state": {**later, "name": "Late"}, "force": True}
    served.api(f"/flow_runs/{run['id']}/set_state", late)
    assert "next look" in served.wait(run["id"], "Skipped", timeout=30)["state"]["message"]


def test_setting_up_again_keeps_every_number_and_what_a_person_switched_off(served, inbox):
    def automations() -> dict[str, tuple[str, bool]]:
        found = served.api("/automations/filter", {})
        return {one["name"]: (one["id"], one["enabled"]) for one in found}

    number, _ = automations()["longtail: failed"]
    served.api(f"/automations/{number}", {"enabled": False}, method="PATCH")
    before = automations()
    assert {
        "longtail: blocked",
        "longtail: an automation could not act",
        "longtail: failed",
    } <= set(before)
    done = served.local("setup", "--profile", str(inbox.profile), **inbox.environment)
    assert done.returncode == 0, done.stdout
    assert automations() == before
