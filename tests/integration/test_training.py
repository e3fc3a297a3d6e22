"""Training on a real server: it ends when it is cancelled, and one trains at a time."""

from __future__ import annotations

import itertools
import time
from datetime import datetime

import psutil
import pytest

pytestmark = pytest.mark.integration

CHILD = "tasks.training_child"
ENDLESS = 100_000


def children(served):
    """The training processes that the worker's runs have started."""
    found = []
    for process in psutil.Process(served.process.pid).children(recursive=True):
        try:
            if CHILD in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def lines(served, number):
    wanted = {"flow_run_id": {"any_": [number]}}
    found = served.api("/logs/filter", {"logs": wanted, "sort": "TIMESTAMP_ASC", "limit": 200})
    return [(datetime.fromisoformat(line["timestamp"]), line["message"]) for line in found]


def training(served, number):
    """Waits until the run trains in earnest; gives the training process."""
    wait_for(lambda: any("training with the loss" in line for line in served.logs(number)), 180)
    (child,) = wait_for(lambda: children(served), 10)
    return child


def taken(served):
    return served.api("/v2/concurrency_limits/gpu")["active_slots"]


def test_cancelling_a_run_ends_its_training_and_leaves_no_process(served):
    number = served.run("retrain-manual", served.smoke("cancelled", epochs=ENDLESS))
    child = training(served, number)
    family = [child, *child.children(recursive=True), child.parent()]
    assert taken(served) == 1
    wait_for(lambda: shown(served, "cancelled-training-bce"), 30)
    cancelled = time.monotonic()
    cancel(served, number)
    child.wait(timeout=30)
    seconds = time.monotonic() - cancelled
    served.wait(number, "Cancelled")
    _, alive = psutil.wait_procs(family, timeout=30)

    assert not alive
    print(f"the training ended {seconds:.1f} s after its run was cancelled")
    assert seconds < 20.0, "a worker looks for what is cancelled every few seconds"
    wait_for(lambda: taken(served) == 0, 30)


def shown(served, key):
    found = served.api("/artifacts/filter", {"artifacts": {"key": {"any_": [key]}}})
    return [one for one in found if one["type"] == "progress" and "epoch" in one["description"]]


def test_two_runs_at_once_never_train_at_once(served):
    runs = [
        # Two budgets, else the second would take over what the first has trained.
        served.run(deployment, served.smoke(name, epochs=epochs))
        for deployment, name, epochs in (
            ("retrain-manual", "one", 20), ("retrain-on-annotations", "two", 21)
        )
    ]  # fmt: skip
    for number in runs:
        wait_for(lambda number=number: trainings(served, number)[:1], 250)
    for number in runs:
        cancel(served, number)
    found = sorted(one for number in runs for one in trainings(served, number))
    told = [text for number in runs for text in served.logs(number)]

    assert len(found) >= 2
    for (_, ended), (began, _) in itertools.pairwise(found):
        assert ended <= began
    assert any("is held by flow run retrain-" in text for text in told)


def trainings(served, number):
    """When each whole training of a run began and ended."""
    said = lines(served, number)
    began = [when for when, text in said if "training with the loss" in text]
    ended = [when for when, text in said if "trained and scored in" in text]
    return list(zip(began, ended, strict=False))


def cancel(served, number):
    state = {"type": "CANCELLING", "name": "Cancelling"}
    served.api(f"/flow_runs/{number}/set_state", {"state": state})


def test_a_killed_run_gives_the_slot_back_and_the_next_one_trains(served):
    number = served.run("retrain-manual", served.smoke("killed", epochs=ENDLESS))
    child = training(served, number)
    killed = time.monotonic()
    child.parent().kill()
    child.wait(timeout=10)
    assert taken(served) == 1
    served.wait(number, "Crashed")
    wait_for(lambda: taken(served) == 0, 180)
    seconds = time.monotonic() - killed
    print(f"the slot of a run that was killed is free after {seconds:.0f} s")
    again = served.run("retrain-manual", served.smoke("killed", epochs=2))
    served.wait(again, "Promoted", "Blocked", timeout=200)

    assert not children(served)
