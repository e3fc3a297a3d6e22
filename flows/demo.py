"""The demo: Debian's package index and its tags, from the download to suggested tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from flows.cli import EXIT_BLOCKED, EXIT_PROMOTED
from flows.config import DataSource, RetrainConfig
from flows.console import run_retrain
from longtail import storage
from longtail.config import PublishSettings
from longtail.debian import read_packages, sample
from longtail.examples import SOURCE_WORDS

if TYPE_CHECKING:
    from longtail.models.explanation import Explanation

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
    from longtail.bundle import load_bundle
    from longtail.models.explanation import score_and_explain
    from tasks.publishing import open_promotions

    promotions = open_promotions(PublishSettings(), store, NAME)
    champion = promotions.champion()
    if champion is None:
        path, model = run / "arms" / "candidate" / "bundle", "the blocked candidate: none is live"
    else:
        kept = store / NAME / "bundles" / f"version-{champion.number}"
        path = promotions.registry.download(champion, kept)
        model = f"the champion, version {champion.number}"
    bundle = load_bundle(path)
    scores, explained = score_and_explain(bundle, untagged["text"].to_pylist())
    suggestions = [
        Suggestions.of(package, dict(zip(bundle.info.labels, row.tolist(), strict=True)), why)
        for package, row, why in zip(untagged.to_pylist(), scores, explained, strict=True)
    ]
    console.print(suggestions_table(model, suggestions))


@dataclass(frozen=True)
class Suggestions:
    """What is suggested for a package.

    Attributes:
        package: its name.
        about: what it is.
        tags: suggested tags with their probability, the strongest first.
        why: what supports the strongest.
    """

    package: str
    about: str
    tags: tuple[tuple[str, float], ...]
    why: Explanation | None

    @classmethod
    def of(
        cls, package: Mapping[str, Any], scores: Mapping[str, float], explained: list[Explanation]
    ) -> Suggestions:
        """From a package, the probability of every tag and explanations of the suggested ones."""
        best = sorted(explained, key=lambda one: -scores[one.label])
        return cls(
            package=package["id"],
            about=package["text"].split("\n")[0],
            tags=tuple((one.label, scores[one.label]) for one in best[:SUGGESTED_TAGS]),
            why=best[0] if best else None,
        )


def suggestions_table(model: str, suggestions: Sequence[Suggestions]) -> Table:
    """A row per package: one column, so that no word is cut where a terminal has 80."""
    table = Table(
        title=f"Suggested tags for packages nobody has tagged yet, by {model}", show_lines=True
    )
    table.add_column("package, suggested tags (probability), and what supports the first")
    for one in suggestions:
        tags = ", ".join(f"{tag} ({probability:.2f})" for tag, probability in one.tags)
        lines = [Text.assemble((one.package, "bold"), f": {one.about}"), Text(tags or "–")]
        if one.why is not None:
            lines.append(Text(_why(one.why), style="dim"))
        table.add_row(Group(*lines))
    return table


def _why(explanation: Explanation) -> str:
    parts = []
    if explanation.words:
        words = ", ".join(f'"{word.term}"' for word in explanation.words)
        parts.append(f"words: {words}")
    if explanation.similar:
        near = explanation.similar[0]
        parts.append(f"most similar: {near.id} ({near.similarity:.2f})")
    if not parts:
        names = (SOURCE_WORDS.get(share.source, share.source) for share in explanation.sources)
        parts.append(f"by: {', '.join(names)}")
    return f"{explanation.label} – {'; '.join(parts)}"
