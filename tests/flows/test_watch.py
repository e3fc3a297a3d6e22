"""The watch flow's parts: what it says, how it sends, and the command."""

from __future__ import annotations

import http.server
import json
import threading
import uuid
from datetime import UTC, datetime

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli import main
from flows.config import WatchConfig, load_config
from flows.receive import load_receiver
from flows.watch import look_once, outcome, sentence
from longtail.errors import ConfigError, StoreError
from tasks.inbox import Look
from tasks.inbox_state import Batch, Event, read_state
from tasks.landed import NotDeliveredError, event_id, send_event

NOW = datetime(2024, 5, 17, 6, tzinfo=UTC)


def event(**more):
    payload = {"name": "desk", "path": "/b", "batch": "000001", "annotations": 3, "files": ["a"]}
    return Event(id=uuid.uuid4(), batch="000001", payload={**payload, **more})


class EventServer(http.server.ThreadingHTTPServer):
    """Prefect's two addresses for events; can forget and refuse."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.kept, self.posts, self.forgets, self.status = {}, 0, False, 204

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/api"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer, status = b"", 200
        if self.path == "/api/events/filter":
            (wanted,) = body["filter"]["id"]["id"]
            found = [server.kept[wanted]] if wanted in server.kept else []
            answer = json.dumps({"events": found}).encode()
        else:
            server.posts += 1
            status = server.status
            if not server.forgets and status == 204:
                server.kept[body[0]["id"]] = body[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with EventServer() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        with temporary_settings({PREFECT_API_URL: found.url}):
            yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def config(tmp_path):
    (tmp_path / "inbox").mkdir()
    return WatchConfig.model_validate({
        "name": "desk", "store": str(tmp_path / "store"),
        "watch": {"inbox": str(tmp_path / "inbox"), "min_annotations": 2, "settle_seconds": 0},
    })  # fmt: skip


def write(path, *names):
    rows = [{"id": name, "text": f"text of {name}", "labels": ["x"]} for name in names]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_an_event_is_sent_once_and_looked_for(server):
    one = event()
    send_event(one)
    send_event(one)
    assert server.posts == 1
    kept = server.kept[str(one.id)]
    assert kept["event"] == "annotations.landed"
    assert kept["resource"]["prefect.resource.id"] == "longtail.inbox.desk"
    assert kept["payload"] == one.payload


def test_an_event_that_the_server_has_not_kept_is_not_delivered(server):
    server.forgets = True
    with pytest.raises(NotDeliveredError, match="not written it down"):
        send_event(event(), patience=0.1)


def test_a_server_that_refuses_is_named_with_its_answer(server):
    server.status = 422
    with pytest.raises(NotDeliveredError, match="422"):
        send_event(event())


def test_a_server_that_is_down_is_noticed():
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(NotDeliveredError, match="does not answer"),
    ):
        send_event(event())


@pytest.fixture
def nobody():
    """No server, whatever other tests of this process have started."""
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield


def test_without_a_server_nobody_can_hear(config, nobody):
    with pytest.raises(NotDeliveredError, match="PREFECT_API_URL"):
        send_event(event())


def test_ids_are_those_of_the_store_and_the_batch():
    one, other = uuid.uuid4(), uuid.uuid4()
    assert event_id(one, "000001") == event_id(one, "000001")
    assert len({event_id(one, "000001"), event_id(one, "000002"), event_id(other, "000001")}) == 3


def test_a_look_delivers_what_an_earlier_one_could_not(config, server, tmp_path):
    write(tmp_path / "inbox" / "1.jsonl", "a", "b")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        seen = look_once(config, NOW)
    assert outcome(seen) == "Waiting"
    assert sentence(seen).startswith("Batch 000001 waits for the server: Prefect's server does not")
    seen = look_once(config, NOW)
    assert outcome(seen) == "Landed"
    assert sentence(seen) == "Batch 000001 with 2 annotations was announced."
    assert server.posts == 1


def test_what_is_said():
    assert outcome(Look()) == "Nothing new"
    assert sentence(Look()) == "Nothing new in the inbox."
    batch = Batch(
        name="000001", since=NOW, files=("1",), sources=("1",), annotations=1, dataset=None
    )
    waiting = Look(waiting=batch, due=NOW, settling=("2",), still_refused=2)
    assert outcome(waiting) == "Waiting"
    assert sentence(waiting) == (
        "1 annotation in 1 file wait for more, until 2024-05-17 06:00 UTC at the latest; 1 file "
        "may still grow; 2 files refused before lie in the inbox."
    )
    assert "refused: a.csv: bad" in sentence(Look(refused={"a.csv": "a.csv: bad"})).lower()


def test_the_command_looks_once(config, server, tmp_path, capsys):
    write(tmp_path / "inbox" / "1.jsonl", "a", "b", "c")
    arguments = ["--name", "desk", "--store", str(tmp_path / "store")]
    arguments += ["--inbox", str(tmp_path / "inbox"), "--set", "watch.settle_seconds=0"]
    assert main(["watch", *arguments]) == 0
    assert "3 annotations in 1 file wait for more" in capsys.readouterr().out
    arguments += ["--set", "watch.min_annotations=1"]
    assert main(["watch", *arguments]) == 0
    assert "was announced" in capsys.readouterr().out
    assert read_state(tmp_path / "store" / "desk").batches[0].status == "closed"


def test_the_command_fails_where_nobody_can_be_told(tmp_path, capsys, nobody):
    (tmp_path / "inbox").mkdir()
    write(tmp_path / "inbox" / "1.jsonl", "a")
    arguments = ["watch", "--name", "desk", "--store", str(tmp_path / "store")]
    arguments += ["--inbox", str(tmp_path / "inbox"), "--set", "watch.settle_seconds=0"]
    assert main([*arguments, "--set", "watch.min_annotations=1"]) == 1
    assert "PREFECT_API_URL" in capsys.readouterr().out
    assert main([*arguments[:-4], "--inbox", str(tmp_path / "none")]) == 1
    assert "cannot be listed" in capsys.readouterr().err


def test_an_inbox_that_is_gone_is_loud(config, tmp_path):
    (tmp_path / "inbox").rmdir()
    with pytest.raises(StoreError, match="cannot be listed"):
        look_once(config, NOW)


@pytest.mark.parametrize("data", [{"path": "x.csv"}, {"export": "full"}])
def test_what_a_watch_does_not_read(data):
    with pytest.raises(ConfigError, match="data"):
        load_config(None, given={"name": "desk", "data": data}, model=WatchConfig)


def test_the_example_of_a_receiver_is_valid(monkeypatch):
    for name in ("LABEL_STUDIO_WEBHOOK_TOKEN", "LABEL_STUDIO_API_TOKEN", "ARGILLA_API_KEY",
                 "DESK_WEBHOOK_SECRET"):  # fmt: skip
        monkeypatch.setenv(name, "a-value")
    monkeypatch.setenv("ARGILLA_WEBHOOK_SECRET", "whsec_c2VjcmV0")
    assert set(load_receiver("deployments/receiver.yaml").sources) == {"tickets", "reviews", "desk"}
