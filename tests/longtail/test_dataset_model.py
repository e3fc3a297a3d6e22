"""Any sequence of exports leaves what a plain book-keeping in dictionaries leaves."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from longtail.annotations.merge import merge_annotations, normalise_text, resolve_voices
from longtail.annotations.schema import ANNOTATIONS
from longtail.dataset import DatasetStore

IDS = st.sampled_from("abcdef")
ROW = st.fixed_dictionaries(
    {
        "id": IDS,
        "text": st.sampled_from(["one", "ONE ", "two"]),
        "labels": st.sets(st.sampled_from("xy"), max_size=2).map(sorted),
        "annotator": st.sampled_from([None, "ann", "bob"]),
        "annotated_at": st.none()
        | st.integers(1, 3).map(lambda day: dt.datetime(2026, 3, day, tzinfo=dt.UTC)),
    }
)
EXPORT = st.fixed_dictionaries(
    {
        "rows": st.lists(ROW, min_size=1, max_size=8),
        "export": st.sampled_from(["delta", "full"]),
        "withheld": st.sets(IDS, max_size=2),
        "policy": st.sampled_from(["latest", "union", "majority"]),
        "merge_duplicates": st.booleans(),
    }
)


def table(rows):
    return pa.Table.from_pylist(rows, schema=ANNOTATIONS)


def plain(row):
    return {name: row.get(name) for name in ANNOTATIONS.names}


def key(row):
    return (normalise_text(row["text"]), tuple(row["labels"]), row["group"], row["split"])


def is_older(new, old):
    both = new["annotated_at"] and old["annotated_at"]
    return bool(both) and new["annotated_at"] < old["annotated_at"]


class Book:
    """The data set as dictionaries."""

    def __init__(self):
        self.texts, self.merged, self.voices, self.policy = {}, {}, {}, None

    def state(self):
        return (
            sorted(map(str, self.texts.values())),
            sorted((name, into) for name, (_, into) in self.merged.items()),
            sorted(str(row) for rows in self.voices.values() for row in rows),
        )

    def upsert(self, accepted, voices, *, policy, export, withheld, merge_duplicates):
        counts = dict.fromkeys(("added", "changed", "unchanged", "merged", "outdated"), 0)
        counts["deleted"] = 0
        if export == "full":
            here = {row["id"] for row in accepted} | withheld
            counts["deleted"] = len(self.texts.keys() - here)
            for book in (self.texts, self.merged, self.voices):
                for name in book.keys() - here:
                    del book[name]
        given = {}
        for row in voices:
            given.setdefault(row["id"], []).append(row)
        seeking = {}
        for row in accepted:
            self._take(row, given.get(row["id"]), policy, counts, seeking)
        if policy != self.policy:
            for name in self.voices.keys() - {row["id"] for row in accepted}:
                self._store(self._resolve(self.voices[name], policy), seeking)
        self.policy = policy
        for name, (row, into) in list(self.merged.items()):
            if into not in self.texts and name not in seeking:
                seeking[name] = row
        accepted_ids = {row["id"] for row in accepted}
        self._settle(seeking, accepted_ids, counts, merge_duplicates)
        return counts

    def _take(self, row, given, policy, counts, seeking):
        name = row["id"]
        stored = self.texts.get(name) or (name in self.merged and self.merged[name][0]) or None
        before = self.voices.get(name) or ([stored] if stored else [])
        now = given or [row]
        if len({voice["annotator"] for voice in [*before, *now]}) == 1:
            self._take_alone(row, stored, counts, seeking)
            return
        verdict = "unchanged"
        for voice in now:
            same = [old for old in before if old["annotator"] == voice["annotator"]]
            if same and same[0] == voice:
                continue
            if same and is_older(voice, same[0]):
                verdict = "outdated" if verdict == "unchanged" else verdict
                continue
            before = [old for old in before if old not in same] + [voice]
            verdict = "changed"
        self.voices[name] = before
        if name in self.texts:
            counts[verdict] += 1
        self._store(self._resolve(before, policy), seeking)

    def _take_alone(self, row, stored, counts, seeking):
        if stored and stored != row and is_older(row, stored):
            counts["outdated"] += 1
            return
        if row["id"] in self.texts:
            counts["unchanged" if stored == row else "changed"] += 1
        self._store(row, seeking)

    def _resolve(self, voices, policy):
        return plain(resolve_voices(table(voices), policy).to_pylist()[0])

    def _store(self, row, seeking):
        if row["id"] in self.texts:
            self.texts[row["id"]] = row
        else:
            seeking[row["id"]] = row

    def _settle(self, seeking, accepted_ids, counts, merge_duplicates):
        originals = {}
        for name in sorted(self.texts):
            originals.setdefault(key(self.texts[name]), name)
        for name in sorted(seeking):
            row, into = seeking[name], name
            self.merged.pop(name, None)
            if merge_duplicates:
                into = originals.setdefault(key(row), name)
            if into == name:
                self.texts[name] = row
            else:
                self.merged[name] = (row, into)
            if name in accepted_ids:
                counts["added" if into == name else "merged"] += 1


def stored_state(store):
    texts = [plain(row) for row in store.read().to_pylist()]
    voices = [plain(row) for row in store.read_voices().to_pylist()]
    merged = [(row["id"], row["merged_into"]) for row in store.read_merged().to_pylist()]
    return sorted(map(str, texts)), sorted(merged), sorted(map(str, voices))


@settings(max_examples=25, deadline=None)
@given(st.lists(EXPORT, min_size=1, max_size=5))
def test_the_store_holds_what_a_plain_book_would_hold(exports):
    with tempfile.TemporaryDirectory() as directory:
        store, book, gone = DatasetStore(Path(directory)), Book(), set()
        for export in exports:
            rows = export.pop("rows")
            merged = merge_annotations(table(rows), export["policy"])
            if not merged.table.num_rows:
                continue
            accepted = [plain(row) for row in merged.table.to_pylist()]
            before, version = book.state(), store.current()
            known = book.texts.keys() | book.merged.keys()
            done = store.upsert(merged.table, voices=merged.voices, max_deleted=1.0, **export)
            counts = book.upsert(
                accepted, [plain(row) for row in merged.voices.to_pylist()], **export
            )

            assert {name: getattr(done, name) for name in counts} == counts
            assert sum(counts.values()) - counts["deleted"] == len(accepted)
            assert stored_state(store) == book.state()
            if version and before == book.state() and not counts["deleted"]:
                assert done.version.fingerprint == version.fingerprint
            present = book.texts.keys() | book.merged.keys()
            gone = (gone | known) - present
            assert set(store.read_deleted()["id"].to_pylist()) == gone
            again = store.upsert(merged.table, voices=merged.voices, max_deleted=1.0, **export)
            assert again.version.fingerprint == done.version.fingerprint
            assert stored_state(store) == book.state()
            book.upsert(accepted, [plain(row) for row in merged.voices.to_pylist()], **export)
