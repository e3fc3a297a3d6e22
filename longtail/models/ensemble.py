"""What a candidate is: encoders, other sources of evidence, and the model that combines them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from longtail import storage
from longtail.activations import ActivationCache
from longtail.errors import StoreError
from longtail.models.combination import Combination
from longtail.models.evidence import (
    Annotated,
    BaselineLogits,
    EncoderLogits,
    LinearDecisions,
    MissingEvidenceError,
    Scores,
    Source,
)
from longtail.models.label_names import LabelNames, NameWords
from longtail.models.neighbours import Neighbours
from longtail.models.reading import EncoderReader, Reading
from longtail.scoring import Progress

logger = logging.getLogger(__name__)

SOURCES: dict[str, type[Source]] = {
    source.name: source
    for source in (
        EncoderLogits, BaselineLogits, LinearDecisions, Neighbours, LabelNames, NameWords
    )
}  # fmt: skip

PARTS = "parts.json"
_COMBINATION = "combination"
_SECOND = f"{BaselineLogits.name}.safetensors"
_ENCODER = frozenset(
    {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Encoders, sources and combination, as they serve.

    Attributes:
        reader: reads texts with the encoders.
        sources: evidence, by name.
        combination: what makes probabilities of it.
    """

    reader: EncoderReader
    sources: Mapping[str, Source]
    combination: Combination

    def evidence(self, reading: Reading) -> dict[str, Scores]:
        """What each source that the combination asks for says of texts."""
        return {name: self.sources[name].score(reading) for name in self.combination.sources}

    def probabilities(
        self,
        texts: Sequence[str],
        *,
        cache: ActivationCache | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """Probability of each label, float32 (n, L)."""
        reading = self.reader.read(texts, cache=cache, progress=progress)
        return self.combination.probabilities(self.evidence(reading))

    def save(self, directory: Path) -> None:
        """Write all but the first encoder, and what belongs together.

        Args:
            directory: made, if need be; the bundle's ``evidence``.
        """
        for name in self.combination.sources:
            part = directory / name
            part.mkdir(parents=True, exist_ok=True)
            self.sources[name].save(part)
            if not any(part.iterdir()):
                part.rmdir()
        first, *others = self.reader.models
        if BaselineLogits.name in self.combination.sources and others:
            changed = _changed(self.reader.models[first], self.reader.models[others[0]])
            safetensors.torch.save_file(changed, directory / _SECOND)
            (directory / _SECOND).chmod(0o644)
        (directory / _COMBINATION).mkdir(parents=True, exist_ok=True)
        self.combination.save(directory / _COMBINATION)

    @classmethod
    def load(
        cls, directory: Path, model: Any, tokenizer: Any, *, max_length: int, frozen_layers: int
    ) -> Ensemble:
        """Read what :meth:`save` wrote.

        Args:
            directory: the bundle's ``evidence``.
            model: the first encoder, from the same bundle.
            tokenizer: its tokenizer.
            max_length: tokens per text.
            frozen_layers: layers that training left alone.

        Raises:
            StoreError: a part is missing or damaged, or was made for other labels.
        """
        combination = Combination.load(directory / _COMBINATION)
        unknown = [name for name in combination.sources if name not in SOURCES]
        if unknown:
            raise StoreError(
                f"{directory}: asks for sources that this version does not know: "
                f"{', '.join(unknown)}"
            )
        models = {EncoderLogits.name: model}
        if BaselineLogits.name in combination.sources:
            models[BaselineLogits.name] = _second(model, directory / _SECOND)
        reader = EncoderReader(
            models, tokenizer, max_length=max_length, frozen_layers=frozen_layers
        )
        sources = {name: SOURCES[name].load(directory / name) for name in combination.sources}
        found = cls(reader, sources, combination)
        found._check(directory, int(model.config.num_labels))
        return found

    def _check(self, directory: Path, labels: int) -> None:
        """All parts must be about the same labels, and speak of an empty text without an error."""
        if len(self.combination.support) != labels:
            raise StoreError(
                f"{directory / _COMBINATION}: made for {len(self.combination.support)} labels, the "
                f"encoder has {labels}: these parts do not belong together"
            )
        reading = self.reader.read([""])
        for name, source in self.sources.items():
            try:
                scores = source.score(reading)
            except (ValueError, KeyError, IndexError) as error:
                raise StoreError(
                    f"{directory / name}: does not fit the encoder ({error}): these parts do not "
                    "belong together"
                ) from error
            if scores.shape != (1, labels):
                raise StoreError(
                    f"{directory / name}: speaks of {scores.shape[1]} labels, the encoder of "
                    f"{labels}: these parts do not belong together"
                )
            if not np.isfinite(scores).all():
                raise StoreError(f"{directory / name}: gives numbers that are not finite")


def fit_sources(
    sources: Sequence[Source], memory: Annotated
) -> tuple[dict[str, Source], list[str]]:
    """Let sources learn from annotated texts; those that have nothing to say are left out.

    Returns:
        The sources by name, and a sentence for each that was left out.
    """
    fitted: dict[str, Source] = {}
    notes = []
    for source in sources:
        try:
            fitted[source.name] = source.fit(memory)
        except MissingEvidenceError as why:
            notes.append(f"The source {source.name} is left out: {why}.")
            logger.warning("%s", notes[-1])
    return fitted, notes


def _changed(first: Any, second: Any) -> dict[str, torch.Tensor]:
    """The weights in which a model differs from another one of its kind."""
    before = first.state_dict()
    return {
        name: weights.detach().cpu().contiguous().clone()
        for name, weights in second.state_dict().items()
        if not torch.equal(weights, before[name])
    }


def _second(model: Any, path: Path) -> Any:
    """A model with other weights where a file has them.

    Raises:
        StoreError: the file is missing, damaged, or has weights of another model.
    """
    if not path.is_file():
        raise StoreError(f"{path}: missing, and the combination asks for that encoder")
    try:
        weights = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise StoreError(f"{path}: not readable as safetensors ({error})") from error
    known = model.state_dict()
    strange = [
        name for name, found in weights.items()
        if name not in known or known[name].shape != found.shape
    ]  # fmt: skip
    if strange:
        raise StoreError(
            f"{path}: has weights that the encoder has not, such as {strange[0]}: these parts do "
            "not belong together"
        )
    second = copy.deepcopy(model)
    second.load_state_dict(weights, strict=False)
    return second.eval()


def parts_of(manifest: Mapping[str, Any], directory: str) -> dict[str, str]:
    """SHA-256 of the files of a directory, and of the encoder's, by a bundle's manifest."""
    return {
        name: str(entry["sha256"])
        for name, entry in manifest["files"].items()
        if name in _ENCODER or (name.startswith(f"{directory}/") and name != f"{directory}/{PARTS}")
    }


def check_parts(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Whether the files of a bundle's evidence are those that were made together.

    Raises:
        StoreError: a part was added, removed or exchanged, though the manifest may list it.
    """
    path = directory / PARTS
    if not path.is_file():
        raise StoreError(f"{path}: missing, so nobody knows which parts belong together")
    expected, found = storage.read_json(path), parts_of(manifest, directory.name)
    if expected != found:
        differing = sorted(
            name
            for name in {*expected, *found}
            if expected.get(name) != found.get(name)
        )  # fmt: skip
        raise StoreError(
            f"{directory}: these parts do not belong together: {differing[0]} is not the one that "
            "the others were made with"
        )
