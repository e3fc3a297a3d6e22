"""Trained encoders, the linear arm, similar texts and label names → the candidate."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import storage
from longtail.activations import ActivationCache
from longtail.baselines import LinearBaseline
from longtail.bundle import Bundle, BundleInfo, TrainingIds, load_bundle, write_bundle
from longtail.config import CombinationSettings, SplitName
from longtail.known import stacked
from longtail.models.combination import CrossFitted, cooccurrence, cross_fit
from longtail.models.ensemble import Ensemble, fit_sources
from longtail.models.evidence import (
    Annotated,
    BaselineLogits,
    EncoderLogits,
    LinearDecisions,
    Scores,
    Source,
)
from longtail.models.label_names import LabelNames, NameWords, in_words
from longtail.models.neighbours import Neighbours
from longtail.models.reading import EncoderReader, Reading
from longtail.predictions import read_predictions
from longtail.scoring import score_bundle
from longtail.taxonomy import load_taxonomy
from tasks.arms import LADDER, STEPS, write_arm
from tasks.data import SplitData
from tasks.handles import ArmHandle, RunHandle, SplitHandle
from tasks.linear_arm import DECISIONS, LINEAR_MODEL, learned_from, write_scores
from tasks.stages import run_stage, stage_key
from tasks.train import arm_handle

logger = logging.getLogger(__name__)

_ENCODER, _BCE, _LINEAR = EncoderLogits.name, BaselineLogits.name, LinearDecisions.name
_STEPS = (
    ("linear", "the linear arm", (_ENCODER, _LINEAR)),
    ("neighbours", "similar texts", (Neighbours.name,)),
    ("names", "the labels' names", (LabelNames.name, NameWords.name)),
    ("both_encoders", "the encoder trained with BCE", (_BCE,)),
)
"""What is added to the sum of evidence, step by step: key, name and sources."""


@task(name="combine evidence", task_run_name="combine evidence", cache_policy=NO_CACHE)
def combine_evidence(
    run: RunHandle,
    split: SplitHandle,
    encoder: ArmHandle,
    bce: ArmHandle,
    linear: ArmHandle,
    settings: CombinationSettings,
    taxonomy: str | None = None,
) -> tuple[ArmHandle, ArmHandle | None]:
    """Fit the candidate's combination, write its bundle and score with it.

    Args:
        run: where the arms go.
        split: validation teaches the combination.
        encoder: trained with the candidate's loss.
        bce: trained with binary cross-entropy.
        linear: the linear arm.
        settings: sources and folds.
        taxonomy: file with the labels' descriptions and aliases, if there is one.

    Returns:
        The candidate, and ``matched``: the same with the BCE encoder in place of the candidate's;
        None where the encoder decides alone.
    """
    descriptions = _descriptions(taxonomy)
    made_of = [arm.key or storage.sha256_file(arm.directory / "validation.parquet")
               for arm in (encoder, bce, linear)]  # fmt: skip
    key = stage_key(
        "combine", ("tasks.combine",), *made_of, settings.model_dump(mode="json"),
        dict(sorted(descriptions.items())),
    )  # fmt: skip
    arms = run.directory / "arms"

    def make(into: Path) -> None:
        _Combining(run, SplitData(split), encoder, bce, linear, settings, descriptions).run(into)

    run_stage(run, "combine", key, arms, make, files=["candidate", "matched"])
    candidate = arm_handle(arms / "candidate", key)
    matched = arms / "matched"
    return candidate, arm_handle(matched, key) if matched.is_dir() else None


def _descriptions(taxonomy: str | None) -> dict[str, list[str]]:
    """What else the labels are called, and what they mean, by label."""
    if taxonomy is None:
        return {}
    return {
        name: [*entry.aliases, *([entry.description] if entry.description else [])]
        for name, entry in load_taxonomy(taxonomy).labels.items()
    }


@dataclass(frozen=True)
class _Combining:
    """One run's arms and settings, and what is read of them."""

    handle: RunHandle
    data: SplitData
    encoder: ArmHandle
    bce: ArmHandle
    linear: ArmHandle
    settings: CombinationSettings
    descriptions: Mapping[str, Sequence[str]]

    def run(self, arms: Path) -> None:
        """Write the candidate, the ladder that leads to it, and the matched arm."""
        started = time.monotonic()
        learning, notes = fit_sources(self._sources(self.settings.sources), self._train)
        evidence = self._on_validation(learning)
        fitted = self._fit(evidence)
        serving, _ = fit_sources(self._sources(list(learning)), self._all)
        directory = arms / "candidate"
        write_scores(directory, self.data, "validation", fitted.out_of_fold)
        bundle = self._bundle(
            directory / "bundle", Ensemble(self.reader, serving, fitted.combination)
        )
        tested = score_bundle(bundle, self.data.texts("test"), cache=self.cache)
        write_scores(directory, self.data, "test", tested)
        self._describe(directory, self.encoder.loss, fitted, notes, started)
        if len(evidence) > 1:
            reading = self.readings["test"]
            on_test = {name: source.score(reading) for name, source in serving.items()}
            self._ladder(directory / LADDER, evidence, on_test)
            self._matched(arms / "matched", evidence, on_test)

    @cached_property
    def cache(self) -> ActivationCache:
        """Activations of the frozen layers."""
        return ActivationCache(self.handle.cache)

    @cached_property
    def bundles(self) -> dict[str, Bundle]:
        """The trained encoders by the name of their evidence."""
        asked = {_ENCODER: self.encoder, _BCE: self.bce}
        found = {}
        for name, arm in asked.items():
            assert arm.bundle is not None
            if name in self.settings.sources or name == _BCE:
                found[name] = load_bundle(arm.bundle)
        return found

    @cached_property
    def reader(self) -> EncoderReader:
        """Reads texts with both encoders."""
        info = self.bundles[_ENCODER].info
        models = {name: bundle.model for name, bundle in self.bundles.items()}
        return EncoderReader(
            models, self.bundles[_ENCODER].tokenizer, max_length=info.max_length,
            frozen_layers=info.frozen_layers,
        )  # fmt: skip

    @cached_property
    def readings(self) -> dict[SplitName, Reading]:
        """What the encoders say of every split."""
        parts: tuple[SplitName, ...] = ("train", "validation", "test")
        # Training has kept the states of its texts in half precision; memories are no finer.
        return {
            part: self.reader.read(
                self.data.texts(part),
                cache=self.cache,
                dtype="float16" if part == "train" else "float32",
            )
            for part in parts
        }

    @cached_property
    def _linear_model(self) -> LinearBaseline:
        return LinearBaseline.load(self.linear.directory / LINEAR_MODEL)

    @cached_property
    def _train(self) -> Annotated:
        return self._annotated("train")

    @cached_property
    def _all(self) -> Annotated:
        """What the serving sources remember: training and validation texts."""
        return _together(self._train, self._annotated("validation"))

    def _annotated(self, part: SplitName) -> Annotated:
        units = self.data.table(part, ["unit"])["unit"].to_numpy()
        return Annotated(
            self.readings[part], self.data.y(part), self.data.ids(part), units,
            self.data.known(part),
        )  # fmt: skip

    def _sources(self, names: Sequence[str]) -> list[Source]:
        words = [in_words(name, *self.descriptions.get(name, ())) for name in self.data.space.names]
        made: tuple[Source, ...] = (
            EncoderLogits(),
            BaselineLogits(),
            _FittedLinear(self._linear_model),
            Neighbours(self.settings.neighbours),
            LabelNames(words, self.reader.read),
            NameWords(words),
        )
        return [source for name in names for source in made if source.name == name]

    def _on_validation(self, sources: Mapping[str, Source]) -> dict[str, Scores]:
        """Evidence for validation texts from sources that have not seen them."""
        kept = read_predictions(self.linear.directory / f"validation{DECISIONS}")
        linear = kept.aligned(self.data.ids("validation"), self.data.space.names)
        return {
            name: linear if name == _LINEAR else source.score(self.readings["validation"])
            for name, source in sources.items()
        }

    def _fit(
        self,
        evidence: Mapping[str, Scores],
        method: Literal["auto", "weighted sum"] = "auto",
    ) -> CrossFitted:
        data = self.data
        pairs = None
        if self.settings.cooccurrence and method == "auto":
            pairs = cooccurrence(data.y("train"), data.known("train"))
        return cross_fit(
            evidence, data.y("validation"), data.known("validation"),
            self._annotated("validation").units, np.array(data.groups.support), pairs,
            self.settings, method=method,
        )  # fmt: skip

    def _ladder(
        self, directory: Path, evidence: Mapping[str, Scores], on_test: Mapping[str, Scores]
    ) -> None:
        """Sums of ever more sources, so that each one's part in the gain can be told."""
        asked: list[str] = []
        steps = []
        for key, name, sources in _STEPS:
            new = [source for source in sources if source in evidence and source not in asked]
            if not set(new) - {_ENCODER}:
                continue
            asked += new
            fitted = self._fit({source: evidence[source] for source in asked}, "weighted sum")
            write_scores(directory / key, self.data, "validation", fitted.out_of_fold)
            tested = fitted.combination.probabilities({source: on_test[source] for source in asked})
            write_scores(directory / key, self.data, "test", tested)
            steps.append({"key": key, "name": name, "sources": list(asked)})
        storage.write_json(directory / STEPS, steps)

    def _matched(
        self, directory: Path, evidence: Mapping[str, Scores], on_test: Mapping[str, Scores]
    ) -> None:
        """The same combination without what was trained with the candidate's loss."""
        started = time.monotonic()
        found, tested = dict(evidence), dict(on_test)
        del found[_ENCODER], tested[_ENCODER]
        if _BCE not in found:
            found = {_BCE: self.readings["validation"].logits[_BCE], **found}
            tested = {_BCE: self.readings["test"].logits[_BCE], **tested}
        if Neighbours.name in found:
            k = self.settings.neighbours
            near = Neighbours(k, encoder=_BCE).fit(self._train)
            found[Neighbours.name] = near.score(self.readings["validation"])
            near = Neighbours(k, encoder=_BCE).fit(self._all)
            tested[Neighbours.name] = near.score(self.readings["test"])
        fitted = self._fit(found)
        asked = fitted.combination.sources
        write_scores(directory, self.data, "validation", fitted.out_of_fold)
        scores = fitted.combination.probabilities({name: tested[name] for name in asked})
        write_scores(directory, self.data, "test", scores)
        self._describe(directory, "bce", fitted, [], started)

    def _bundle(self, directory: Path, ensemble: Ensemble) -> Path:
        own = self.bundles[_ENCODER]
        combined = ensemble.combination.sources != (_ENCODER,)
        info = BundleInfo.model_validate(
            {**own.info.model_dump(), "sources": ensemble.combination.sources}
        )
        # Neighbours remember validation texts, and the combination has learned from them.
        parts = learned_from(refit=combined)
        return write_bundle(
            directory, own.model, own.tokenizer, info,
            TrainingIds(*self.data.training_hashes(parts)),
            ensemble=ensemble if combined else None,
        )  # fmt: skip

    def _describe(
        self,
        directory: Path,
        loss: str,
        fitted: CrossFitted,
        notes: Sequence[str],
        started: float,
    ) -> None:
        found, arm = fitted.combination, directory.name
        notes = [*notes, *found.notes]
        logger.info("%s: %s of %s", arm, found.method, ", ".join(found.sources))
        for note in notes:
            logger.info("%s: %s", arm, note)
        about: dict[str, Any] = {
            "method": found.method,
            "sources": found.sources,
            "weights": dict(found.weighted.weights),
            "notes": notes,
            "validation_micro_f1": dict(fitted.micro_f1),
            "validation_log_loss": dict(fitted.log_loss),
        }
        write_arm(
            directory, arm=arm, loss=loss, seconds=time.monotonic() - started, history=[],
            combination=about, learned_from=learned_from(refit=True),
        )  # fmt: skip


class _FittedLinear(LinearDecisions):
    """The linear arm, which was fitted in a stage of its own."""

    def fit(self, memory: Annotated) -> _FittedLinear:  # noqa: ARG002
        return self


def _together(first: Annotated, second: Annotated) -> Annotated:
    """Annotated texts, one set below the other."""
    one, other = first.reading, second.reading
    reading = Reading(
        [*one.texts, *other.texts],
        {name: np.concatenate([one.logits[name], other.logits[name]]) for name in one.logits},
        {name: np.concatenate([one.vectors[name], other.vectors[name]]) for name in one.vectors},
        None
        if one.meaning is None or other.meaning is None
        else np.concatenate([one.meaning, other.meaning]),
    )
    shapes = [first.y.shape, second.y.shape]
    return Annotated(
        reading,
        sp.csr_array(sp.vstack([first.y, second.y])),
        [*first.ids, *second.ids],
        np.concatenate([first.units, second.units]),
        stacked(shapes, [first.known, second.known]),
    )
