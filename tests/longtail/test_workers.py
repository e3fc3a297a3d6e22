"""Batches side by side: in order, on one thread each, and cleaned up after."""

import threading
import time

import pytest
import torch

from longtail.workers import one_thread_per_operation, side_by_side

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_though_they_are_made_at_once():
    meeting = threading.Barrier(2, timeout=10)

    def work(number):
        if number < 2:
            meeting.wait()  # passes only when both are under way
        time.sleep(0.01 * (number % 3))
        return number * number

    found = list(side_by_side(work, range(20), device=CPU))
    assert found == [(number, number * number) for number in range(20)]


def test_each_runs_on_one_thread_and_the_number_comes_back():
    seen = [threads for _, threads in
            side_by_side(lambda _: torch.get_num_threads(), range(5), device=CPU)]  # fmt: skip
    assert seen == [1] * 5
    assert torch.get_num_threads() == 2
    with one_thread_per_operation() as before:
        assert (before, torch.get_num_threads()) == (2, 1)
    assert torch.get_num_threads() == 2


def test_items_are_not_taken_far_ahead():
    taken = []
    results = side_by_side(
        lambda item: item, (taken.append(i) or i for i in range(100)), device=CPU
    )
    next(results)
    assert len(taken) < 10
    results.close()
    assert torch.get_num_threads() == 2


def test_an_error_is_raised_and_the_rest_is_let_go():
    done = []

    def work(number):
        if number == 3:
            raise ValueError("the third")
        done.append(number)
        return number

    with pytest.raises(ValueError, match="the third"):
        list(side_by_side(work, range(1000), device=CPU))
    assert len(done) < 20
    assert torch.get_num_threads() == 2


def test_another_device_gets_one_at_a_time():
    names = side_by_side(
        lambda _: threading.current_thread().name, range(4), device=torch.device("meta")
    )
    assert {name for _, name in names} == {threading.current_thread().name}
