"""The command line: ``longtail demo | retrain | predict | compare | report | promote | ...``.

Little more than the standard library is imported, so that ``longtail --help`` answers at once.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence

from flows import handlers

EXIT_PROMOTED, EXIT_ERROR, EXIT_USAGE, EXIT_BLOCKED = 0, 1, 2, 3
EXIT_ATTENTION = 3

_DESCRIPTION = """\
Train long-tailed multi-label text classifiers that go live only when they are better.

Drop in an annotation export: longtail checks it, trains a linear model, a BERT with binary
cross-entropy and a candidate with a distribution-balanced loss, and compares them on a frozen
test set. Either the candidate goes live, or the old model stays and report.html says why."""

_COMPARE_EXAMPLES = """\
examples:
  longtail compare --data tickets=tickets.csv --losses bce,db,ntr-focal --seeds 0,1,2
  longtail compare --config benchmarks/compare.yaml --data reuters=reuters.parquet --shard 1/2

What is there already is not trained again: the same command goes on where it was killed.
"""

_AUDIT_EXAMPLES = """\
examples:
  longtail audit --data export.json --out audit
  longtail audit --name tickets

exit codes: 0 done, whatever was found, 1 error, 2 bad usage."""

_EXIT_CODES = """\
exit codes: 0 promoted (or done), 1 error, 2 bad usage, 3 blocked, or waiting for a decision: the
old model stays."""

_RETRAIN_EXAMPLES = """\
examples:
  longtail retrain --data export.jsonl
  longtail retrain --data export.csv --set "data.label_separator='|'" --set data.columns.id=key
  longtail retrain --data week48.parquet --name tickets --config profile.yaml --out runs/week48

Every setting, with its default: docs/reference/configuration.md. --set KEY=VALUE changes one.
"""


_TAXONOMY_EXAMPLES = """\
examples:
  longtail taxonomy init --data export.jsonl
  longtail taxonomy check --data week48.csv --taxonomy taxonomy.yaml --name tickets

exit codes: 0 nothing needs attention (or done), 1 error, 2 bad usage, 3 something does."""


_WATCH_EXAMPLES = """\
examples:
  longtail watch --name tickets --inbox inbox
  longtail watch --name tickets --inbox s3://bucket/inbox --every 300

exit codes: 0 done, 1 error or the server could not be told, 2 bad usage."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    from flows.runtime import in_words, lost_server, prepare_environment
    from longtail.errors import ConfigError

    prepare_environment()
    # Ended from outside, a run still stops the server that Prefect started for it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except ConfigError as error:
        print(f"longtail: {error}", file=sys.stderr)
        return EXIT_USAGE
    except Exception as error:
        sentence = in_words(error) or lost_server(error)
        if sentence is None:  # a defect of ours
            raise
        print(f"longtail: {sentence}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("longtail: interrupted; the champion is what it was", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from longtail import __version__

    parser = argparse.ArgumentParser(
        prog="longtail",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"longtail {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_retrain(commands)
    _add_predict(commands)
    _add_compare(commands)
    _add_taxonomy(commands)
    _add_audit(commands)
    _add_report(commands)
    _add_promote(commands)
    _add_rollback(commands)
    _add_watch(commands)
    _add_receive(commands)
    _add_cache(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    run: Callable[[argparse.Namespace], int],
    *,
    description: str | None = None,
    epilog: str = _EXIT_CODES,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=description or summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        metavar="DIR",
        help="what persists between runs: data sets, splits, registry; or s3://BUCKET/PREFIX, "
        "which workers share (default: $LONGTAIL_STORE, else ./longtail-store)",
    )


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting"
    )


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "demo",
        "run the whole job on Debian's package index and its tags",
        handlers.demo,
        description="Read Debian's package index through this machine's apt (no root needed, the\n"
        "system's lists stay as they are), learn its tags, and suggest tags for packages that\n"
        "nobody has tagged yet.",
    )
    parser.add_argument("--full", action="store_true", help="all tagged packages, not a sample")
    parser.add_argument("--texts", type=_positive, metavar="N", help="size of the sample")
    parser.add_argument("--dir", default="demo", metavar="DIR", help="work here (default: ./demo)")


def _add_retrain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "retrain",
        "train on an annotation export and promote the candidate if the gate lets it",
        handlers.retrain,
        epilog=_RETRAIN_EXAMPLES + "\n" + _EXIT_CODES,
    )
    parser.add_argument("--data", metavar="FILE", help="the export: CSV, JSONL or Parquet")
    parser.add_argument("--config", metavar="FILE", help="settings in YAML")
    parser.add_argument("--out", metavar="DIR", help="where this run's results go")
    parser.add_argument("--name", help="the model's name (default: from the file's name)")
    parser.add_argument(
        "--force", action="store_true", help="run every stage anew, though nothing has changed"
    )
    _add_store(parser)
    _add_set(parser)


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "predict", "label texts with the champion", handlers.predict, epilog=_EXIT_CODES
    )
    parser.add_argument("--data", required=True, metavar="FILE", help="texts: CSV, JSONL, Parquet")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="predictions: .parquet, .csv or .jsonl (default: beside the data)",
    )
    parser.add_argument("--name", help="the model's name (default: the only one in the store)")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="say for each label which words, similar texts and sources support it",
    )
    _add_store(parser)
    _add_set(parser)


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "compare",
        "train several losses with several seeds on several data sets, and rank them",
        handlers.compare,
        epilog=_COMPARE_EXAMPLES + "\n" + _EXIT_CODES,
    )
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=FILE",
        help="an export; several times for several data sets",
    )  # fmt: skip
    parser.add_argument("--losses", metavar="A,B", help="losses, such as bce,db,ntr-focal")
    parser.add_argument("--seeds", metavar="I,J", help="seeds, such as 0,1,2")
    parser.add_argument("--config", metavar="FILE", help="settings in YAML")
    parser.add_argument("--out", metavar="DIR", help="where it is kept (default: ./comparison)")
    parser.add_argument(
        "--shard", type=_shard, metavar="I/N",
        help="train only the I-th of N shares of the cells; all shards share --out",
    )  # fmt: skip
    _add_set(parser)


def _add_taxonomy(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "taxonomy", help="check an export's labels, or list them", epilog=_TAXONOMY_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = _command(
        actions, "check", "say what an export would change of the labels", handlers.taxonomy_check,
        description="Compare an export's labels with the data set and the taxonomy: new,\n"
        "vanished, probably renamed, retired ones. Nothing is stored.",
        epilog=_TAXONOMY_EXAMPLES,
    )  # fmt: skip
    check.add_argument("--taxonomy", metavar="FILE", help="taxonomy.yaml (data.taxonomy)")
    check.add_argument("--name", help="the model's name (default: from the file's name)")
    check.add_argument("--json", metavar="FILE", help="write the findings there too")
    _add_store(check)
    init = _command(
        actions, "init", "write a first taxonomy from the labels of an export",
        handlers.taxonomy_init,
        epilog=_TAXONOMY_EXAMPLES,
    )  # fmt: skip
    init.add_argument(
        "--out", default="taxonomy.yaml", metavar="FILE",
        help="the file to write; one that is there stays (default: %(default)s)",
    )  # fmt: skip
    for action in (check, init):
        action.add_argument("--data", metavar="FILE", help="the export")
        action.add_argument("--config", metavar="FILE", help="settings in YAML")
        _add_set(action)


def _add_audit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "audit",
        "say what is wrong with annotations, and write a list of what to look at",
        handlers.audit,
        epilog=_AUDIT_EXAMPLES,
    )
    parser.add_argument("--data", metavar="FILE", help="an export; no store is needed")
    parser.add_argument("--name", help="a stored data set instead")
    parser.add_argument(
        "--out", metavar="DIR",
        help="where the results go (default: ./audit, with --name a new directory in the store)",
    )  # fmt: skip
    parser.add_argument("--config", metavar="FILE", help="settings in YAML")
    _add_store(parser)
    _add_set(parser)


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "report", "write report.html of a run once more", handlers.report)
    parser.add_argument("run_directory", metavar="RUN", help="directory of the run")


def _add_promote(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "promote",
        "let a candidate pass that waits or was blocked, in your name and for a reason",
        handlers.promote,
        description="Approve a verdict that waits for a decision, or override the gate's block\n"
        "of a run. The name and the reason stay in the promotion log for ever; the check in a\n"
        "fresh process is made all the same.",
    )
    parser.add_argument("run_directory", metavar="RUN", help="directory of the run")
    parser.add_argument("--by", required=True, help="who decides")
    parser.add_argument("--reason", required=True, help="why; kept in the promotion log")


def _add_rollback(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "rollback", "put the previous champion back", handlers.rollback)
    parser.add_argument("--name", help="the model's name (default: the only one in the store)")
    parser.add_argument("--to", type=_positive, metavar="VERSION", help="an older version instead")
    parser.add_argument("--reason", required=True, help="why; kept in the promotion log")
    parser.add_argument("--by", help="who decides (default: the user logged in)")
    _add_store(parser)


def _add_watch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "watch", "look for new annotations in an inbox, and announce them",
        handlers.watch,
        description="Look at an inbox; once enough annotations have come, or the first have\n"
        "waited long enough, tell the Prefect server that PREFECT_API_URL names.",
        epilog=_WATCH_EXAMPLES,
    )  # fmt: skip
    parser.add_argument("--name", help="the model's name")
    parser.add_argument("--inbox", metavar="DIR", help="directory or URL (watch.inbox)")
    parser.add_argument("--every", type=_positive, metavar="SECONDS", help="stay, and look again")
    parser.add_argument("--config", metavar="FILE", help="settings in YAML")
    _add_store(parser)
    _add_set(parser)


def _add_receive(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands, "receive", "take annotation tools' webhooks and fetch their exports",
        handlers.receive,
        description="Serve the addresses that annotation tools call when something was annotated;\n"
        "their exports are then fetched into the inbox.",
        epilog="exit codes: 0 ended from outside, 1 error, 2 bad usage.",
    )  # fmt: skip
    parser.add_argument("--config", metavar="FILE", required=True, help="sources in YAML")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8383, help="port (default: %(default)s)")


def _add_cache(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("cache", help="list or clear what stages of runs have made")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _command(
        actions, "list", "list what is kept, and how much room it takes", handlers.cache
    )
    clear = _command(
        actions,
        "clear",
        "remove what stages have made; no run and no model needs it",
        handlers.cache,
    )
    clear.add_argument("--stage", metavar="STAGE", help="only this stage's, such as train-bce")
    clear.add_argument(
        "--older-than", type=_days, metavar="DAYS", help="only what nobody used for so long"
    )
    for action in (listing, clear):
        _add_store(action)
    listing.set_defaults(clear=False)
    clear.set_defaults(clear=True)


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < float("inf"):
        raise argparse.ArgumentTypeError("must be 0 or more")
    return days


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _shard(text: str) -> tuple[int, int]:
    number, separator, count = text.partition("/")
    if not separator or not 1 <= int(number) <= int(count):
        raise argparse.ArgumentTypeError("expected I/N, such as 1/4, with I from 1 to N")
    return int(number) - 1, int(count)


if __name__ == "__main__":
    sys.exit(main())
