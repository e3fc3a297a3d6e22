"""Does a bundle give, in a fresh process, what was evaluated?

By transformers' pipeline alone; a bundle that combines several sources of evidence, by Longtail's
own scoring, which alone can serve it.

    python -m longtail.serve_check BUNDLE TEXTS.parquet EXPECTED.parquet --tolerance 1e-4

TEXTS has a column ``text``; EXPECTED is what :mod:`longtail.predictions` writes, rows in the same
order. Prints one line of JSON; the exit status is 0 where the probabilities agree, else 1.

In another batch an encoder's logits differ in the seventh digit. Where a combination was learned
with trees, such a difference may lie across a split, and moves that one probability by more: of a
combined bundle, up to one probability in a thousand may differ by more than the tolerance.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from longtail import storage
from longtail.errors import LongtailError, StoreError
from longtail.predictions import Predictions, read_predictions, write_predictions

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
_TIMEOUT = 600.0
_ACROSS_SPLITS = 0.001
BY_TRANSFORMERS = "transformers.pipeline"
BY_LONGTAIL = "longtail.scoring.score_bundle"


@dataclass(frozen=True)
class ServeCheck:
    """What the fresh process found.

    Attributes:
        passed: the probabilities agree within the tolerance.
        largest_difference: of a probability; None where none could be compared.
        n: texts that were scored.
        differing: share of the probabilities that differ by more than the tolerance.
        detail: why it failed, empty where it passed.
        by: what scored the texts, :data:`BY_TRANSFORMERS` or :data:`BY_LONGTAIL`; empty where
            nothing did.
    """

    passed: bool
    largest_difference: float | None
    n: int
    detail: str = ""
    by: str = ""
    differing: float = 0.0


def run_serve_check(
    bundle: str | Path,
    texts: Sequence[str],
    expected: NDArray[np.float32],
    tolerance: float,
    *,
    timeout: float = _TIMEOUT,
) -> ServeCheck:
    """Score texts with a bundle in a fresh process and compare.

    Args:
        bundle: its directory.
        texts: n texts, at least one.
        expected: probabilities (n, L) in the bundle's label order.
        tolerance: largest difference allowed.
        timeout: seconds after which the process is ended and the check has failed.

    Returns:
        The result; a process that cannot load the bundle, crashes or hangs is a failed check.
    """
    from longtail.bundle import read_info

    try:
        labels = read_info(bundle).labels
    except LongtailError as error:
        return ServeCheck(passed=False, largest_difference=None, n=0, detail=str(error))
    ids = tuple(str(row) for row in range(len(texts)))
    with tempfile.TemporaryDirectory(prefix="longtail-serve-check-") as name:
        directory = Path(name)
        storage.write_parquet(directory / "texts.parquet", pa.table({"text": list(texts)}))
        write_predictions(directory / "expected.parquet", Predictions(ids, labels, expected))
        command = [
            sys.executable, "-m", "longtail.serve_check", str(Path(bundle).resolve()),
            str(directory / "texts.parquet"), str(directory / "expected.parquet"),
            "--tolerance", repr(float(tolerance)),
        ]  # fmt: skip
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter and module
                command, capture_output=True, text=True, timeout=timeout, check=False,
                start_new_session=True, env={**os.environ, **_ENVIRONMENT},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            detail = f"the fresh process did not answer within {timeout:g} s"
            return ServeCheck(passed=False, largest_difference=None, n=0, detail=detail)
    return _read_answer(done)


def check(bundle: Path, texts: Path, expected: Path, tolerance: float) -> ServeCheck:
    """The check itself, in this process: what serves the bundle against the expectation.

    Raises:
        StoreError: the bundle is damaged, or the files do not fit each other.
    """
    from longtail.bundle import read_info

    storage.verify_directory(bundle)
    combined = read_info(bundle).combined
    by = BY_LONGTAIL if combined else BY_TRANSFORMERS
    rows = storage.read_parquet(texts, columns=["text"])["text"].to_pylist()
    wanted = read_predictions(expected)
    if not rows or len(rows) != len(wanted.ids):
        raise StoreError(f"{texts}: {len(rows)} texts, {expected}: {len(wanted.ids)} rows")
    score = longtail_probabilities if combined else pipeline_probabilities
    found = score(bundle, rows, wanted.labels)
    differences = np.abs(found - wanted.probabilities)
    # A NaN compares false with everything: it must not pass.
    differing = float(1.0 - (differences <= tolerance).mean())
    passed = differing <= (_ACROSS_SPLITS if combined else 0.0)
    passed = passed and bool(np.isfinite(differences).all())
    largest = float(differences.max())
    detail = f"by {by}, {differing:.2%} of the probabilities differ by more than {tolerance:g}, "
    detail += f"one by {largest:.3g}"
    return ServeCheck(passed, largest, len(rows), "" if passed else detail, by, differing)


def pipeline_probabilities(
    bundle: str | Path, texts: Sequence[str], labels: Sequence[str]
) -> NDArray[np.float32]:
    """Probabilities (n, L) of a bundle by ``transformers.pipeline``, columns as in ``labels``.

    Raises:
        StoreError: the bundle's labels are others.
    """
    from transformers import pipeline

    classify: Any = pipeline(
        "text-classification", model=str(bundle), top_k=None, truncation=True, device="cpu"
    )
    columns = {name: column for column, name in enumerate(labels)}
    result = np.full((len(texts), len(labels)), np.nan, dtype=np.float32)
    for row, entries in enumerate(classify(list(texts))):
        scores = {entry["label"]: entry["score"] for entry in entries}
        if scores.keys() != columns.keys():
            raise StoreError(f"{bundle}: gives other labels than expected")
        for name, value in scores.items():
            result[row, columns[name]] = value
    return result


def longtail_probabilities(
    bundle: str | Path, texts: Sequence[str], labels: Sequence[str]
) -> NDArray[np.float32]:
    """Probabilities (n, L) of a bundle as Longtail serves it, columns as in ``labels``.

    Raises:
        StoreError: the bundle is damaged, or its labels are others.
    """
    from longtail.bundle import load_bundle
    from longtail.scoring import score_bundle

    loaded = load_bundle(bundle)
    if set(loaded.info.labels) != set(labels):
        raise StoreError(f"{bundle}: gives other labels than expected")
    columns = [loaded.info.labels.index(name) for name in labels]
    return score_bundle(loaded, texts)[:, columns]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check and print its result as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m longtail.serve_check", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("expected", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    given = parser.parse_args(arguments)
    try:
        result = check(given.bundle, given.texts, given.expected, given.tolerance)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong here would go wrong in production
        detail = f"{type(error).__name__}: {error}"
        result = ServeCheck(passed=False, largest_difference=None, n=0, detail=detail)
    print(json.dumps(storage.finite(asdict(result))))
    return 0 if result.passed else 1


def _read_answer(done: subprocess.CompletedProcess[str]) -> ServeCheck:
    lines = done.stdout.strip().splitlines()
    try:
        answer = ServeCheck(**json.loads(lines[-1]))
    except (IndexError, TypeError, json.JSONDecodeError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        detail = f"the fresh process ended with status {done.returncode}: {last}"
        return ServeCheck(passed=False, largest_difference=None, n=0, detail=detail)
    passed = answer.passed and done.returncode == 0
    return replace(answer, passed=passed)


if __name__ == "__main__":
    sys.exit(main())
