"""What holds of a store at every moment, whatever was killed; shared with the tests of chaos."""

from __future__ import annotations

from pathlib import Path

from longtail import storage
from longtail.config import PublishSettings
from longtail.dataset import DatasetStore
from longtail.ledger import SplitLedger
from longtail.stage_cache import StageCache
from tasks.journal import LOOKS, Journal
from tasks.promotion import Promotion
from tasks.publishing import open_promotions


def check_readable(store: Path, name: str) -> list[Promotion]:
    """What persists can be read and agrees with itself, also between two steps of a run.

    Gives the promotions that were logged. The ledger may still lack texts of the data set's last
    version, and the log a promotion that the next run finishes.
    """
    dataset = DatasetStore(store / name / "dataset")
    known = set()
    if dataset.current() is not None:
        ids = dataset.read()["id"].to_pylist()
        known = set(ids)
        assert len(known) == len(ids)
    entries = SplitLedger(store / name / "ledger").read()
    assert len(entries) <= len(known)
    assert int(entries.lookup(sorted(known)).known.sum()) == len(entries)
    Journal(store / name / LOOKS).entries()
    for entry in StageCache(store / "cache" / "stages").entries():
        storage.verify_directory(entry.directory)
    promotions = open_promotions(PublishSettings(), store, name)
    log = promotions.log()
    assert [entry.from_version for entry in log] == [None, *(e.to_version for e in log[:-1])]
    champion = promotions.registry.aliased("champion")
    if champion is not None:
        promotions.registry.verify(champion)
    assert champion is not None or not log, "a champion was promoted, and there is none"
    return log


def check_whole(store: Path, name: str, texts: int) -> list[int]:
    """Everything that a run was to do is done; gives the versions that were promoted."""
    log = check_readable(store, name)
    dataset = DatasetStore(store / name / "dataset")
    entries = SplitLedger(store / name / "ledger").read()
    champion = open_promotions(PublishSettings(), store, name).champion()
    assert len(entries) == dataset.read(columns=["id"]).num_rows == texts
    assert not entries.deleted.any()
    assert champion is not None
    assert champion.number == log[-1].to_version
    return [entry.to_version for entry in log]
