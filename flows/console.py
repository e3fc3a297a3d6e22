"""What the command line prints: the verdict, the arms, and where to look."""

from __future__ import annotations

import contextlib
import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from flows.cli import EXIT_BLOCKED, EXIT_ERROR, EXIT_PROMOTED
from longtail import storage
from longtail.annotations.readers import read_annotations
from longtail.audit.corrections import read_corrections
from longtail.config import CONTENDER
from longtail.errors import ConfigError, DataError, EmptyExportError
from longtail.report.files import load_run
from longtail.taxonomy import load_taxonomy

if TYPE_CHECKING:
    from prefect import State

    from flows.config import AuditConfig, CompareConfig, DataSource, PredictConfig, RetrainConfig
    from tasks.promotion import Promotion

_ARM_COLUMNS = (
    ("micro-F1", "micro_f1"),
    ("precision", "micro_precision"),
    ("recall", "micro_recall"),
    ("macro-F1", "macro_f1"),
    ("label coverage", "label_coverage"),
    ("Hamming loss", "hamming_loss"),
)


def run_retrain(config: RetrainConfig) -> int:
    """Run the retrain flow, print what came out, and give the exit code."""
    _check_files(_here(config), may_be_empty=_may_be_quiet(config))
    from flows.retrain import retrain

    state: State[Any] = retrain(config, return_state=True)
    if state.name == "Quarantined":
        raise DataError(f"{state.message}")
    if state.name not in ("Promoted", "Blocked", "Waiting", "Unchanged"):
        state.result()  # raises what went wrong
        return EXIT_ERROR
    directory = Path(f"{state.result(raise_on_failure=False)}")
    print_outcome(directory)
    if state.name != "Unchanged":
        return EXIT_PROMOTED if state.name == "Promoted" else EXIT_BLOCKED
    Console().print(f"{state.message}", markup=False, highlight=False)
    run = load_run(directory)
    promoted = run.verdict["decision"] == "promote" and not run.waits
    return EXIT_PROMOTED if promoted else EXIT_BLOCKED


def run_predict(config: PredictConfig) -> int:
    """Label the texts of a file and say where the labels are."""
    _check_files(_here(config), labels_required=False)
    from flows.predict import predict

    handle = predict(config)
    console = Console()
    console.print(
        f"{handle.texts:,} texts labelled by version {handle.version}: {handle.path}",
        markup=False,
        soft_wrap=True,
    )
    if handle.quarantine is not None:
        console.print(
            f"{handle.quarantined:,} rows set aside with their reasons: {handle.quarantine}",
            markup=False,
            soft_wrap=True,
        )
    return EXIT_PROMOTED


def run_compare(config: CompareConfig) -> int:
    """Compare losses and say where the leaderboard is."""
    for source in config.data.values():
        _check_files(source)
    from flows.compare import compare

    page = compare(config)
    said = "Cells of other shards are still to come." if page is None else f"Leaderboard: {page}"
    Console().print(said, markup=False, soft_wrap=True)
    return EXIT_PROMOTED


def run_audit(config: AuditConfig) -> int:
    """Audit annotations, print what was found and where the list of it is."""
    _check_files(_here(config))
    _ = config.model_name  # raises where there is none
    from flows.audit import audit
    from longtail.report.audit_page import summary

    page = audit(config)
    console = Console()
    for sentence in summary(storage.read_json(page.with_name("audit.json"))):
        console.print(f"  • {sentence}", markup=False, highlight=False)
    console.print(f"Audit: {page}", markup=False, soft_wrap=True)
    for name, what in (("worklist.json", "To look at"), ("corrections.csv", "To accept")):
        console.print(f"{what}: {page.with_name(name)}", markup=False, soft_wrap=True)
    return EXIT_PROMOTED


def run_report(directory: str) -> int:
    """Write a run's report once more; that of a pruned run stays as it was written."""
    from flows.store import run_directory
    from longtail.report import render_report
    from tasks.pruned_runs import pruned_sentence

    run = run_directory(directory)
    if (said := pruned_sentence(run)) is not None:
        page = run / "report.html"
        told = f"{said}. Its report stays as it was written: {page}"
        Console().print(told, markup=False, soft_wrap=True)
        return EXIT_PROMOTED
    page = render_report(run)
    Console().print(f"Report: {page}", markup=False, soft_wrap=True)
    return EXIT_PROMOTED


def run_promote(directory: str, *, by: str, reason: str) -> int:
    """Let a candidate pass, print what came of it, and give the exit code."""
    from flows.promote import promote
    from flows.store import run_directory

    run = run_directory(directory)
    verdict = promote(run, by=by, reason=reason)
    print_outcome(run)
    return EXIT_PROMOTED if verdict.decision == "promote" else EXIT_BLOCKED


def run_rollback(
    *, name: str | None, store: str | None, to: int | None, by: str | None, reason: str
) -> int:
    """Put an earlier champion back and say which."""
    from flows.rollback import rollback

    asked = {"by": by or _user(), "reason": reason, "name": name, "store": store, "to": to}
    state: State[Any] = rollback(**asked, return_state=True)
    entry: Promotion = state.result()
    Console().print(
        f"Version {entry.to_version} is live again; version {entry.from_version} is kept as "
        "the previous one.",
        markup=False,
    )
    return EXIT_PROMOTED


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # in a container a user need not have a name
        raise ConfigError("This user has no name here: say who decides, with --by NAME.") from error


def print_outcome(directory: Path) -> None:
    """The verdict, its reasons and the arms side by side."""
    console = Console()
    run = load_run(directory)
    console.print(_arms_table(run.metrics))
    promoted = run.verdict["decision"] == "promote"
    if run.waits:
        gate = "would promote" if promoted else "blocks"
        console.print(f"THE GATE {gate.upper()}, AND A PERSON DECIDES", style="bold yellow")
    else:
        console.print(
            "PROMOTED" if promoted else "BLOCKED", style="bold green" if promoted else "bold red"
        )
    for reason in run.verdict["reasons"]:
        console.print(f"  • {reason}", markup=False, highlight=False)
    if run.waits:
        command = f"longtail promote {directory} --by NAME --reason WHY"
        console.print(f"This waits for a decision: {command}", markup=False, soft_wrap=True)
    console.print(f"Report: {directory / 'report.html'}", markup=False, soft_wrap=True)


def _may_be_quiet(config: RetrainConfig) -> bool:
    """Whether an export without rows may be meant; raises where the model has no name."""
    pointer = config.store_directory / config.model_name / "dataset" / "current.json"
    return config.data.export == "delta" and pointer.is_file()


def _here(config: RetrainConfig | PredictConfig | AuditConfig) -> DataSource:
    """The data without what only the flow can read: a part of a shared store, once it has it."""
    from flows.store import lies_in_shared_store

    return config.data.model_copy(update={"path": None} if lies_in_shared_store(config) else {})


def _check_files(
    data: DataSource, *, labels_required: bool = True, may_be_empty: bool = False
) -> None:
    """Refuse files that cannot be read at all, before the seconds that a flow takes to start.

    Raises:
        ConfigError: a taxonomy that does not hang together.
        DataError: such an export or list of corrections.
    """
    if data.taxonomy is not None:
        load_taxonomy(data.taxonomy)
    if data.corrections is not None:
        read_corrections(data.corrections)
    if data.path is None:
        return
    batches = read_annotations(data.path, data, labels_required=labels_required)
    allowed = contextlib.suppress(EmptyExportError) if may_be_empty else contextlib.nullcontext()
    with contextlib.closing(batches), allowed:
        next(batches)


def _arms_table(metrics: dict[str, Any]) -> Table:
    test = metrics["test"]
    table = Table(title=f"Test set: {test['texts']:,} texts, {test['labels']:,} labels")
    table.add_column("arm")
    for heading, _ in _ARM_COLUMNS:
        table.add_column(heading, justify="right")
    for arm, entry in metrics["arms"].items():
        name = f"{arm} ({entry['loss']})" if arm == "candidate" else arm
        if arm.startswith(CONTENDER):
            name = f"{entry['loss']} alone"
        cells = [_number(entry["overall"].get(key)) for _, key in _ARM_COLUMNS]
        table.add_row(name, *cells)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
