"""Trained encoders, the linear arm, similar texts and label names → the candidate."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from longtail import storage
from longtail.activations import ActivationCache
from longtail.baselines import LinearBaseline
from longtail.bundle import Bundle, BundleInfo, TrainingIds, load_bundle, write_bundle
from longtail.config import CombinationSettings, SplitName
from longtail.models.combination import CrossFitted
from longtail.models.ensemble import Ensemble, fit_sources
from longtail.models.evidence import (
    Annotated,
    BaselineLogits,
    EncoderLogits,
    LinearDecisions,
    Scores,
    Source,
)
from longtail.models.held_out import held_out_evidence, together
from longtail.models.label_names import LabelNames, NameWords, in_words
from longtail.models.ladder import (
    BCE,
    ENCODER,
    LINEAR,
    Stacking,
    probabilities_of,
    sums,
    without_the_loss,
)
from longtail.models.neighbours import Neighbours
from longtail.models.reading import EncoderReader
from longtail.predictions import read_predictions
from longtail.scoring import score_bundle
from tasks.arms import LADDER, write_arm
from tasks.data import SplitData
from tasks.evidence import (
    about_combination,
    annotated_splits,
    descriptions_of,
    stacking_of,
    write_steps,
)
from tasks.handles import ArmHandle, RunHandle, SplitHandle
from tasks.linear_arm import DECISIONS, LINEAR_MODEL, learned_from, write_scores
from tasks.stages import run_stage, stage_key
from tasks.train import arm_handle

logger = logging.getLogger(__name__)


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
    descriptions = descriptions_of(taxonomy)
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
        learning, notes = fit_sources(self._sources(self.settings.sources), self.splits["train"])
        evidence = self._on_validation(learning)
        fitted = self._stacking.fit(evidence)
        memory = together(self.splits["train"], self.splits["validation"])
        serving, _ = fit_sources(self._sources(list(learning)), memory)
        directory = arms / "candidate"
        write_scores(directory, self.data, "validation", fitted.out_of_fold)
        bundle = self._bundle(
            directory / "bundle", Ensemble(self.reader, serving, fitted.combination)
        )
        scores = score_bundle(bundle, self.data.texts("test"), cache=self.cache)
        write_scores(directory, self.data, "test", scores)
        self._describe(directory, self.encoder.loss, fitted, notes, started)
        if len(evidence) > 1:
            reading = self.splits["test"].reading
            on_test = {name: source.score(reading) for name, source in serving.items()}
            steps = list(sums(self._stacking, evidence, on_test))
            write_steps(directory / LADDER, self.data, steps)
            self._matched(arms / "matched", evidence, on_test)

    @cached_property
    def cache(self) -> ActivationCache:
        """Activations of the frozen layers."""
        return ActivationCache(self.handle.cache)

    @cached_property
    def bundles(self) -> dict[str, Bundle]:
        """The trained encoders by the name of their evidence."""
        asked = {ENCODER: self.encoder, BCE: self.bce}
        found = {}
        for name, arm in asked.items():
            assert arm.bundle is not None
            if name in self.settings.sources or name == BCE:
                found[name] = load_bundle(arm.bundle)
        return found

    @cached_property
    def reader(self) -> EncoderReader:
        """Reads texts with both encoders."""
        info = self.bundles[ENCODER].info
        models = {name: bundle.model for name, bundle in self.bundles.items()}
        return EncoderReader(
            models, self.bundles[ENCODER].tokenizer, max_length=info.max_length,
            frozen_layers=info.frozen_layers,
        )  # fmt: skip

    @cached_property
    def splits(self) -> dict[SplitName, Annotated]:
        """The texts of every split, read by the encoders."""
        return annotated_splits(self.data, self.reader, self.cache)

    @cached_property
    def _linear_model(self) -> LinearBaseline:
        return LinearBaseline.load(self.linear.directory / LINEAR_MODEL)

    @cached_property
    def _stacking(self) -> Stacking:
        return stacking_of(self.data, self.settings)

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
            name: linear if name == LINEAR else source.score(self.splits["validation"].reading)
            for name, source in sources.items()
        }

    def _matched(
        self, directory: Path, evidence: Mapping[str, Scores], on_test: Mapping[str, Scores]
    ) -> None:
        """The same combination without what was trained with the candidate's loss."""
        started = time.monotonic()
        parts = [self.splits[part] for part in ("train", "validation", "test")]
        near = held_out_evidence(
            lambda: [BaselineLogits(), Neighbours(self.settings.neighbours, encoder=BCE)],
            parts[0], parts[1], parts[2].reading,
        )  # fmt: skip
        fitted = self._stacking.fit(without_the_loss(evidence, near.validation))
        write_scores(directory, self.data, "validation", fitted.out_of_fold)
        scores = probabilities_of(fitted, without_the_loss(on_test, near.test))
        write_scores(directory, self.data, "test", scores)
        self._describe(directory, "bce", fitted, [], started)

    def _bundle(self, directory: Path, ensemble: Ensemble) -> Path:
        own = self.bundles[ENCODER]
        combined = ensemble.combination.sources != (ENCODER,)
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
        about, arm = about_combination(fitted, notes), directory.name
        logger.info("%s: %s of %s", arm, about["method"], ", ".join(about["sources"]))
        for note in about["notes"]:
            logger.info("%s: %s", arm, note)
        write_arm(
            directory, arm=arm, loss=loss, seconds=time.monotonic() - started, history=[],
            combination=about, learned_from=learned_from(refit=True),
        )  # fmt: skip


class _FittedLinear(LinearDecisions):
    """The linear arm, which was fitted in a stage of its own."""

    def fit(self, memory: Annotated) -> _FittedLinear:  # noqa: ARG002
        return self
