"""The model card of a bundle: README.md with the metadata that model hubs read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from longtail.config import GROUPS

if TYPE_CHECKING:
    from longtail.bundle import BundleInfo

_SHOWN = (
    ("micro_f1", "micro-F1"),
    ("macro_f1", "macro-F1"),
    ("weighted_f1", "weighted F1"),
    ("micro_precision", "micro-precision"),
    ("micro_recall", "micro-recall"),
    ("hamming_loss", "Hamming loss"),
    ("label_coverage", "label coverage"),
)


def render_card(info: BundleInfo, metrics: Mapping[str, Any] | None, *, weights_bytes: int) -> str:
    """The card as Markdown.

    Args:
        info: what the bundle is.
        metrics: overall test metrics by name; None where the model was not evaluated yet.
        weights_bytes: size of ``model.safetensors``.
    """
    return _FRONT.format(library="longtail" if info.combined else "transformers") + _BODY.format(
        use=_use(info),
        reads="; the sources over words read all of it" if info.combined else "",
        loss=info.loss,
        labels=len(info.labels),
        groups=_groups(info),
        calibrated=_CALIBRATED if info.combined else _SCORES,
        metrics=_metrics(metrics),
        policy=info.threshold_policy,
        max_length=info.max_length,
        data=info.data_fingerprint,
        encoder=info.encoder_source,
        encoder_fingerprint=info.encoder_fingerprint,
        frozen=_frozen(info),
        megabytes=weights_bytes / 1e6,
        created=info.created_at.isoformat(timespec="seconds"),
        versions=", ".join(f"{name} {version}" for name, version in info.versions.items()),
    )


def _use(info: BundleInfo) -> str:
    if info.combined:
        return _USE_COMBINED.format(sources=", ".join(info.sources))
    return _USE.format(example=json.dumps(info.labels[0], ensure_ascii=False))


def _groups(info: BundleInfo) -> str:
    medium, head = info.group_cutoffs
    counts = Counter(info.label_groups)
    limits = {"HEAD": f"{head} or more", "MEDIUM": f"{medium} to {head - 1}",
              "TAIL": f"fewer than {medium}"}  # fmt: skip
    rows = [f"| {group} | {counts[group]} | {limits[group]} |" for group in GROUPS]
    return "\n".join(["| group | labels | training texts per label |", "|---|---|---|", *rows])


def _metrics(metrics: Mapping[str, Any] | None) -> str:
    if metrics is None:
        return "Not evaluated yet."
    rows = [f"| {title} | {_number(metrics[key])} |" for key, title in _SHOWN if key in metrics]
    return "\n".join(["On the frozen test split:", "", "| metric | value |", "|---|---|", *rows])


def _number(value: Any) -> str:
    return "not computable" if value is None else f"{float(value):.4f}"


def _frozen(info: BundleInfo) -> str:
    if info.frozen_layers < 0:
        return "all layers were trained"
    return f"the embeddings and the lowest {info.frozen_layers} layers were left as they were"


_CALIBRATED = (
    "They are made to be read as\nfrequencies; how near they come to that is in the run's report."
)
_SCORES = "They are scores to be cut at the\nthresholds, not calibrated frequencies."

_FRONT = """---
library_name: {library}
pipeline_tag: text-classification
tags:
- multi-label
- long-tail
- longtail
---
"""

_USE = """```python
from transformers import pipeline

classify = pipeline("text-classification", model="PATH", top_k=None, truncation=True)
classify(["a text"])  # per text one probability for each label, such as {example}
```

Leave `truncation=True` in: without it the pipeline does not cut long texts, and gives other
probabilities for them than those that were evaluated."""

_USE_COMBINED = """**This model must be served by Longtail.** A label's probability combines several
sources of evidence ({sources}), which are in `evidence/`. Plain transformers loads the encoder
alone and gives other probabilities, for which neither the thresholds nor the metrics below hold.

From the model store that it was promoted in:

```
longtail predict --data TEXTS.csv --store STORE
```

From this directory:

```python
from longtail.bundle import load_bundle
from longtail.scoring import score_bundle
from longtail.thresholds import decide

bundle = load_bundle("PATH")
probabilities = score_bundle(bundle, ["a text"])  # one row per text, columns: bundle.info.labels
given = decide(probabilities, bundle.thresholds)
```"""

_BODY = """
# Multi-label text classifier

Gives each text any number of {labels} labels, most of which are rare. Trained by Longtail with the
loss `{loss}`.

## Use

{use}

A label is given where its probability is above its own threshold; the thresholds (policy
`{policy}`, fitted on validation) are in `longtail.json`. The encoder reads the first {max_length}
tokens of a text, as in training{reads}.

## Labels

{groups}

## Metrics

{metrics}

## Training

- Data: fingerprint `{data}`. `training_ids.parquet` holds hashes of the ids and texts that were
  trained on, so that a test text among them is found.
- Encoder: `{encoder}`, fingerprint `{encoder_fingerprint}`; {frozen}.
- Created {created} with {versions}. Weights: {megabytes:.0f} MB.

## Contract

Input: one text, UTF-8, any length (read as above). Output: {labels} independent probabilities in
[0, 1]; they do not add up to 1. {calibrated}

## Intended use and limits

- For suggesting labels on texts like those it was trained on. On other kinds of texts, in other
  languages and for labels that came later, nothing is promised.
- A label of the group TAIL was learnt from very few texts: look at its own precision and recall in
  the report before relying on it.
- It repeats the habits of the people who labelled the training texts, mistakes included.
"""
