import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "fixtures"


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def generator():
    sys.path.insert(0, str(FIXTURES))
    try:
        import make_tickets
    finally:
        sys.path.remove(str(FIXTURES))
    return make_tickets


def test_the_committed_tickets_are_what_the_generator_writes(generator, tickets, tickets_week2):
    week1, week2 = generator.make_both_weeks()

    assert generator.to_jsonl(week1) == tickets.read_text(encoding="utf-8")
    assert generator.to_jsonl(week2) == tickets_week2.read_text(encoding="utf-8")


def test_the_tickets_have_a_long_tail(tickets):
    rows = rows_of(tickets)
    supports = Counter(label for row in rows for label in row["labels"])

    assert len(rows) == len({row["id"] for row in rows}) == 400
    assert len(supports) == 20
    assert sum(support >= 100 for support in supports.values()) == 3
    assert sum(support <= 6 for support in supports.values()) >= 5
    assert {len(row["labels"]) for row in rows} == {0, 1, 2, 3}


def test_every_label_stands_in_three_threads_so_that_every_split_can_have_it(tickets):
    threads = defaultdict(set)
    for row in rows_of(tickets):
        for label in row["labels"]:
            threads[label].add(row["group"])

    assert min(map(len, threads.values())) >= 3


def test_the_tickets_are_no_near_duplicates_of_each_other(tickets, tickets_week2):
    texts = {row["id"]: row["text"] for row in rows_of(tickets) + rows_of(tickets_week2)}
    shingles = []
    for text in texts.values():
        words = text.lower().split()
        shingles.append(frozenset(zip(words, words[1:], words[2:], strict=False)))

    for i, one in enumerate(shingles):
        for other in shingles[:i]:
            assert len(one & other) < 0.8 * len(one | other)


def test_week_two_brings_new_changed_and_unchanged_tickets_and_a_new_label(tickets, tickets_week2):
    old = {row["id"]: row for row in rows_of(tickets)}
    week2 = rows_of(tickets_week2)
    known = [row for row in week2 if row["id"] in old]
    changed = [row for row in known if row["labels"] != old[row["id"]]["labels"]]

    assert (len(week2) - len(known), len(changed), len(known) - len(changed)) == (60, 8, 4)
    assert all(row["annotated_at"] > old[row["id"]]["annotated_at"] for row in changed)
    new_labels = {label for row in week2 for label in row["labels"]}
    assert new_labels - {label for row in old.values() for label in row["labels"]} == {"packaging"}
