"""The demo: Debian's package index and its tags, from the download to suggested tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from flows.cli import EXIT_BLOCKED, EXIT_PROMOTED
from flows.config import DataSource, RetrainConfig
from flows.console import run_retrain
from longtail import storage
from longtail.config import PublishSettings
from longtail.debian import read_packages, sample

NAME = "debian"
SAMPLE_TEXTS = 12_000
MIN_LABEL_SUPPORT = 10
SUGGESTED_PACKAGES = 8
SUGGESTED_TAGS = 5


def run_demo(directory: str, *, texts: int | None = None, full: bool = False) -> int:
    """Fetch, retrain, and suggest tags for packages nobody has tagged; gives the exit code."""
    root = Path(directory).resolve()
    console = Console()
    console.print("Reading Debian's package index through apt …")
    packages = read_packages(root / "apt")
    tagged = packages.tagged if full else sample(packages.tagged, texts or SAMPLE_TEXTS)
    console.print(
        f"{packages.tagged.num_rows:,} tagged packages, {packages.untagged.num_rows:,} that nobody "
        f"has tagged yet; training on {tagged.num_rows:,}."
    )
    export = root / "debian.parquet"
    storage.write_parquet(export, tagged)
    store = root / "store"
    run = root / "run"
    code = run_retrain(demo_config(export, store, run))
    if code in (EXIT_PROMOTED, EXIT_BLOCKED):
        _suggest(console, sample(packages.untagged, SUGGESTED_PACKAGES), store, run)
    return code


def demo_config(export: Path, store: Path, run: Path) -> RetrainConfig:
    """The settings of the demo; all the rest is the default."""
    return RetrainConfig(
        name=NAME,
        store=str(store),
        out=str(run),
        data=DataSource(
            path=str(export),
            min_label_support=MIN_LABEL_SUPPORT,
        ),
    )


def _suggest(console: Console, untagged: pa.Table, store: Path, run: Path) -> None:
    """Tags for packages without any, from the champion, else from the candidate."""
    from longtail.bundle import read_info
    from longtail.scoring import score_bundle
    from tasks.publishing import open_promotions

    promotions = open_promotions(PublishSettings(), store, NAME)
    champion = promotions.champion()
    if champion is None:
        bundle, model = run / "arms" / "candidate" / "bundle", "the blocked candidate: none is live"
    else:
        kept = store / NAME / "bundles" / f"version-{champion.number}"
        bundle = promotions.registry.download(champion, kept)
        model = f"the champion, version {champion.number}"
    info = read_info(bundle)
    scores = score_bundle(bundle, untagged["text"].to_pylist())
    table = Table(title=f"Suggested tags for packages nobody has tagged yet, by {model}")
    table.add_column("package")
    table.add_column("what it is")
    table.add_column("suggested tags (probability)")
    for row, package in enumerate(untagged.to_pylist()):
        given = [j for j in np.argsort(-scores[row]) if scores[row, j] > info.thresholds[j]]
        tags = [f"{info.labels[j]} ({scores[row, j]:.2f})" for j in given[:SUGGESTED_TAGS]]
        table.add_row(package["id"], package["text"].split("\n")[0], "\n".join(tags) or "–")
    console.print(table)
