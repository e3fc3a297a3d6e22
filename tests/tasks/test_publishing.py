"""Publishing takes a passing verdict and a passed serve check, and nothing less."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path

import numpy as np
import pytest

from longtail.config import EncoderSettings, GatePolicy, PublishSettings
from longtail.errors import StoreError
from longtail.gate.verdict import RuleResult, Verdict, override
from longtail.serve_check import ServeCheck
from tasks.promotion import StaleChampionError
from tasks.publishing import (
    NotPublishableError,
    open_promotions,
    publish,
    rollback,
    rules_fingerprint,
)

NOW = dt.datetime(2026, 11, 23, 6, 0, tzinfo=dt.UTC)
SERVED = ServeCheck(passed=True, largest_difference=1e-7, n=64)


def rule(name: str = "micro_f1", passed: bool = True, severity: str = "block") -> RuleResult:
    return RuleResult(
        name=name, passed=passed, severity=severity, value=0.01, threshold=0.0, detail=f"{name}."
    )


def verdict(*rules: RuleResult, champion: str | None = None, **changes) -> Verdict:
    rules = rules or (rule("candidate_scored"), rule())
    passed = all(found.passed for found in rules)
    values = {
        "decision": "promote" if passed else "block",
        "first_release": champion is None,
        "champion_mode": "refresh",
        "reasons": ("Better.",) if passed else ("Worse.",),
        "looks": 1,
        "rules": rules,
        "policy": GatePolicy().model_dump(mode="json"),
        "arms": {"candidate": "f00d"} | ({"champion": champion} if champion else {}),
    }
    return Verdict(**(values | changes))


@pytest.fixture
def promotions(store_directory):
    return open_promotions(PublishSettings(), store_directory, "tickets")


def release(promotions, bundle, the_verdict, serve=SERVED, **more):
    given = {"by": "test", "micro_f1": 0.5, "at": NOW} | more
    return publish(promotions, bundle, the_verdict, serve, **given)


def test_a_passing_verdict_is_published_and_remembered(promotions, make_bundle):
    first = release(promotions, make_bundle("one"), verdict())
    passed = verdict(champion="1")
    second = release(
        promotions, make_bundle("two"), passed, micro_f1=0.75, tags={"longtail.data": "abc"}
    )
    champion = promotions.champion()
    assert (champion.number, champion.micro_f1) == (2, 0.75)
    assert champion.tags["longtail.decision"] == "promote"
    assert champion.tags["longtail.data"] == "abc"
    assert promotions.registry.aliased("previous").number == 1
    assert promotions.log() == [first, second]
    assert (second.from_version, second.to_version) == (1, 2)
    assert second.at == "2026-11-23T06:00:00+00:00"
    assert second.reasons == ("Better.",)
    assert second.rules == rules_fingerprint(passed)
    assert second.run_id == champion.run_id
    assert promotions.best(NOW).number == 2


@pytest.mark.parametrize(
    "refused",
    [
        verdict(rule(passed=False)),
        verdict().model_copy(update={"rules": ()}),
        verdict().model_copy(update={"rules": (rule(passed=False),)}),
        verdict(rule(passed=False)).model_copy(update={"decision": "promote"}),
        verdict(rule(severity="warn"), rule()).model_copy(
            update={"rules": (rule(severity="warn"),)}
        ),
    ],
    ids=["block", "no rules", "failed rule", "block called promote", "only warnings"],
)
def test_anything_but_a_passing_verdict_is_refused(promotions, make_bundle, refused):
    with pytest.raises(NotPublishableError, match="verdict"):
        release(promotions, make_bundle("one"), refused)
    assert promotions.champion() is None
    assert promotions.registry.find(1) is None


@pytest.mark.parametrize(
    ("passed", "difference", "n"),
    [
        (False, 1e-7, 64),
        (False, None, 0),
        (True, None, 64),
        (True, math.nan, 64),
        (True, 0.0, 0),
        (True, math.inf, 64),
    ],
)
def test_a_bundle_that_failed_its_serve_check_is_refused(
    promotions, make_bundle, passed, difference, n
):
    serve = ServeCheck(passed=passed, largest_difference=difference, n=n)
    blocked = verdict(rule("candidate_scored"), rule(passed=False))
    for asked in (verdict(), override(blocked, "ada", "we know better", NOW)):
        with pytest.raises(NotPublishableError, match="fresh process"):
            release(promotions, make_bundle("one"), asked, serve)
    assert promotions.registry.find(1) is None


def test_an_override_is_published_and_stays_in_the_log(promotions, make_bundle):
    blocked = verdict(rule("candidate_scored"), rule(passed=False))
    release(promotions, make_bundle("one"), override(blocked, "ada", "holiday labels", NOW))
    (line,) = promotions.log()
    assert line.override["by"] == "ada"
    assert line.override["reason"] == "holiday labels"
    assert promotions.champion().tags["longtail.override_by"] == "ada"


def test_a_verdict_about_an_unknown_champion_is_refused(promotions, make_bundle):
    with pytest.raises(NotPublishableError, match="which version the champion was"):
        release(promotions, make_bundle("one"), verdict(first_release=False))


def test_a_verdict_about_a_former_champion_is_stale(promotions, make_bundle):
    release(promotions, make_bundle("one"), verdict())
    release(promotions, make_bundle("two"), verdict(champion="1"))
    with pytest.raises(StaleChampionError, match="version 1, but the champion is now version 2"):
        release(promotions, make_bundle("three"), verdict(champion="1"))
    assert promotions.champion().number == 2
    # It is registered, harmlessly: nothing points to it.
    assert promotions.registry.find(3) is not None


def test_publishing_the_same_run_again_changes_nothing(promotions, make_bundle):
    client = promotions.registry.store.client()
    experiment = promotions.registry.store.experiment(client, "tickets")
    run = client.create_run(experiment).info.run_id
    once = release(promotions, make_bundle("one"), verdict(), run_id=run)
    assert release(promotions, make_bundle("one"), verdict(), run_id=run) == once
    assert len(promotions.log()) == 1


def real_bundle(directory: Path, seed: int) -> Path:
    from longtail.bundle import BundleInfo, TrainingIds, write_bundle
    from longtail.encoder import build_classifier, load_encoder
    from longtail.tiny import write_tiny_encoder

    labels = ("bug", "print")
    path = write_tiny_encoder(directory / f"encoder{seed}", ["the printer jams"], hidden_size=16)
    encoder = load_encoder(EncoderSettings(source=str(path), sha256=None))
    info = BundleInfo(
        labels=labels,
        thresholds=(0.5, 0.5),
        threshold_policy="global",
        label_groups=("HEAD", "TAIL"),
        group_cutoffs=(1, 2),
        train_support=(2, 1),
        max_length=32,
        loss="db",
        data_fingerprint="d",
        encoder_fingerprint="e",
        encoder_source="tiny",
    )
    training = TrainingIds(np.zeros(1, np.uint64), np.zeros(1, np.uint64))
    model = build_classifier(encoder, labels, seed=seed)
    return write_bundle(directory / f"bundle{seed}", model, encoder.tokenizer, info, training)


def test_rollback_serves_the_bundle_first(promotions, make_bundle, tmp_path):
    release(promotions, real_bundle(tmp_path, seed=1), verdict())
    release(promotions, real_bundle(tmp_path, seed=2), verdict(champion="1"))
    line = rollback(promotions, "ada", "wrong tags", at=NOW)
    assert (line.from_version, line.to_version) == (2, 1)
    assert promotions.champion().number == 1
    assert promotions.registry.aliased("previous").number == 2


def test_rollback_to_what_cannot_be_loaded_changes_nothing(promotions, make_bundle):
    release(promotions, make_bundle("one"), verdict())
    release(promotions, make_bundle("two"), verdict(champion="1"))
    with pytest.raises(StoreError, match="not a bundle of Longtail's"):
        rollback(promotions, "ada", "wrong tags")
    assert promotions.champion().number == 2
    assert len(promotions.log()) == 2
