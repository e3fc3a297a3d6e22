"""Package lists through the machine's own apt client, in a folder of ours.

No root is needed, and the system's own lists, caches and hooks stay untouched.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from longtail import storage
from longtail.control_file import read_paragraphs
from longtail.errors import DataError

logger = logging.getLogger(__name__)

Runner = Callable[[Sequence[str]], "subprocess.CompletedProcess[bytes]"]
Kind = Literal["Packages", "Translations"]
Origin = Literal["downloaded", "reused", "older", "system"]

OWN_DATA = "To train on your own data instead: longtail retrain --data FILE"
_HELPER = "/usr/lib/apt/apt-helper"
_STAMP = "complete"
_UPDATE_SECONDS = 600.0
_TARGET_FIELDS = frozenset({"Filename", "Created-By", "Origin"})

# What may be set in the system's configuration and must not act here: images for containers turn
# languages off, and hooks after an update write to the system's caches. Only a configuration file
# can clear; the paths go on the command line, where they need no quoting.
_CONFIGURATION = """\
#clear Acquire::Languages;
Acquire::Languages { "en"; };
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large-hidpi;
#clear Acquire::IndexTargets::deb::Contents-deb;
#clear Acquire::IndexTargets::deb::CNF;
Acquire::IndexTargets::deb-src::Sources::DefaultEnabled "false";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
APT::Sandbox::User "";
"""


class IndexFile(NamedTuple):
    """One list on disk, compressed or not."""

    kind: Kind
    path: str


@dataclass(frozen=True)
class Lists:
    """The lists to read, where they come from, and what apt said when a download failed."""

    files: tuple[IndexFile, ...]
    origin: Origin
    trouble: str = ""


def run_command(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, its messages in English; a time-out gives exit status 124."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(  # noqa: S603  (fixed programs, no shell)
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=environment,
            check=False,
            timeout=_UPDATE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        message = f"E: no answer within {_UPDATE_SECONDS:g} s".encode()
        return subprocess.CompletedProcess(command, 124, b"", message)


def fetch(
    state_dir: str | Path, *, run: Runner = run_command, max_age: timedelta = timedelta(days=1)
) -> Lists:
    """Bring Debian's package lists and English descriptions into a folder of ours, about 16 MB.

    Lists that were completed there less than ``max_age`` ago are taken as they are. Where the
    download fails, older lists in the folder serve, then the system's own; the log says so.

    Args:
        state_dir: folder of ours; made where it does not exist.
        run: runs a command and returns its output; tests give their own.
        max_age: age from which the lists are downloaded again.

    Raises:
        DataError: there is no apt here, or no lists could be had; the message has apt's words.
    """
    root = Path(state_dir).resolve()
    with storage.lock(root / "lock"):
        private = _apt_command(root)
        if _is_fresh(root / _STAMP, max_age) and (files := _index_files(private, run)):
            logger.info("Debian's package lists: the ones downloaded less than %s ago", max_age)
            return Lists(files, "reused")
        trouble = _update(root, private, run)
        if files := _index_files(private, run):
            if trouble:
                logger.warning(
                    "apt could not download every list, so what it has is read: %s", trouble
                )
            return Lists(files, "older" if trouble else "downloaded", trouble)
    if files := _index_files(["apt-get", "-c", str(root / "apt.conf")], run):
        logger.warning(
            "apt could not download Debian's package lists, so the system's own are read, with "
            "short descriptions where the long ones are missing: %s",
            trouble,
        )
        return Lists(files, "system", trouble)
    raise DataError(
        f"apt could not download Debian's package lists, and the system has none: {trouble}. "
        f"Check the network and /etc/apt/sources.list, then try again. {OWN_DATA}"
    )


def read_lists(
    lists: Lists, kind: Kind, fields: frozenset[str], *, run: Runner = run_command
) -> Iterator[dict[str, str]]:
    """Read the named fields of every paragraph of the lists of one kind.

    Raises:
        DataError: apt cannot read one of its own files.
    """
    for file in lists.files:
        if file.kind != kind:
            continue
        done = _run([_HELPER, "cat-file", file.path], run)
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip()
            raise DataError(f"{file.path}: apt cannot read this list of its own: {words}")
        yield from _paragraphs_of(done.stdout, fields)


def _apt_command(root: Path) -> list[str]:
    return [
        *("apt-get", "-q", "-c", str(root / "apt.conf")),
        *("-o", f"Dir::State={root}"),
        *("-o", f"Dir::State::lists={root / 'lists'}"),
        *("-o", "Dir::State::status=/dev/null"),
        *("-o", f"Dir::Cache={root / 'cache'}"),
        *("-o", "Acquire::GzipIndexes=false"),
    ]


def _update(root: Path, private: list[str], run: Runner) -> str:
    """Download; returns what apt complained about, empty when all went well."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    storage.write_text(root / "apt.conf", _CONFIGURATION)
    (root / _STAMP).unlink(missing_ok=True)
    logger.info("downloading Debian's package lists through apt, about 16 MB")
    done = _run([*private, "update"], run)
    messages = done.stderr.decode(errors="replace").splitlines()
    trouble = [line for line in messages if line.startswith(("E:", "W: Failed to fetch"))]
    if len(trouble) > 2:
        trouble[1:] = [f"and {len(trouble) - 1} more"]
    if not trouble and done.returncode == 0:
        storage.write_text(root / _STAMP, "")
        return ""
    return "; ".join(trouble) or f"apt-get update ended with exit status {done.returncode}"


def _is_fresh(stamp: Path, max_age: timedelta) -> bool:
    return stamp.is_file() and time.time() - stamp.stat().st_mtime < max_age.total_seconds()


def _index_files(apt: list[str], run: Runner) -> tuple[IndexFile, ...]:
    """The lists that apt has on disk; only Debian's own where other archives are set up too."""
    done = _run([*apt, "indextargets"], run)
    targets = list(_paragraphs_of(done.stdout, _TARGET_FIELDS))
    debian = [target for target in targets if target.get("Origin") == "Debian"] or targets
    kinds: tuple[Kind, ...] = ("Packages", "Translations")
    files = [
        IndexFile(kind, target["Filename"])
        for target in debian
        for kind in kinds
        if target.get("Created-By") == kind and target.get("Filename")
    ]
    return tuple(files) if any(file.kind == "Packages" for file in files) else ()


def _paragraphs_of(content: bytes, fields: frozenset[str]) -> Iterator[dict[str, str]]:
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="replace", newline="\n")
    return read_paragraphs(lines, fields)


def _run(command: list[str], run: Runner) -> subprocess.CompletedProcess[bytes]:
    try:
        return run(command)
    except FileNotFoundError as error:
        raise DataError(
            f"The demo's data is Debian's package index, read through apt, and there is no "
            f"{command[0]} on this machine. {OWN_DATA}"
        ) from error
