"""Debian's package index as a long-tailed multi-label data set, read through the machine's apt.

Each binary package is a text (its short and long English description) that volunteers have
labelled with debtags, such as ``role::program`` or ``works-with::audio``; half of the packages
nobody has tagged yet. Binary packages of one source share most of their text, so the source
package is the group that must not be split apart.
"""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from longtail.apt import OWN_DATA, Lists, Runner, fetch, read_lists, run_command
from longtail.control_file import join_description, parse_tags
from longtail.errors import DataError

logger = logging.getLogger(__name__)

TAGGED = pa.schema(
    {
        "id": pa.string(),
        "text": pa.string(),
        "labels": pa.list_(pa.string()),
        "group": pa.string(),
        "source": pa.string(),
    }
)
UNTAGGED = pa.schema([field for field in TAGGED if field.name != "labels"])

_PACKAGE_FIELDS = frozenset({"Package", "Source", "Description", "Description-md5", "Tag"})
_TRANSLATION_FIELDS = frozenset({"Description-md5", "Description-en"})


class Packages(NamedTuple):
    """What the lists hold: tables with the schemas ``TAGGED`` and ``UNTAGGED``, sorted by id."""

    tagged: pa.Table
    untagged: pa.Table


def read_packages(state_dir: str | Path, *, run: Runner = run_command) -> Packages:
    """Fetch the lists where needed and read every package from them.

    A package that several suites carry is one row: the first that has tags, else the first.
    A package with no tag but ``…::TODO`` counts as untagged.

    Args:
        state_dir: folder of ours, as for `fetch`.
        run: runs a command and returns its output; tests give their own.

    Returns:
        Tagged and untagged packages: id (package name), text, labels (sorted tags; only in
        ``tagged``), group (source package), source ("debian").

    Raises:
        DataError: there is no apt, there are no lists, or they have no tags.
    """
    lists = fetch(state_dir, run=run)
    started = time.monotonic()
    descriptions = _read_descriptions(lists, run)
    rows = _read_rows(lists, descriptions, run)
    tagged = [row for row in rows if row["labels"]]
    if not tagged:
        raise DataError(
            f"None of the {len(rows)} packages that apt knows here has tags, so these lists are "
            f"not Debian's own{f' ({lists.trouble})' if lists.trouble else ''}. {OWN_DATA}"
        )
    untagged = [row for row in rows if not row["labels"]]
    logger.info(
        "%d tagged and %d untagged packages, read in %.1f s",
        len(tagged),
        len(untagged),
        time.monotonic() - started,
    )
    return Packages(
        pa.Table.from_pylist(tagged, schema=TAGGED),
        pa.Table.from_pylist(untagged, schema=UNTAGGED),
    )


def sample(table: pa.Table, n: int, seed: int = 0) -> pa.Table:
    """Take at most ``n`` rows, whole groups only, the same ones on every machine.

    Groups are ordered by a hash of seed and name and taken until the next one would not fit, so a
    larger sample contains every smaller one, and a package that is new in the index moves nothing
    but the sample's end. At least one group is taken.

    Args:
        table: has a string column ``group`` without nulls.
        n: number of rows, at least 1.
        seed: another seed, another sample.

    Returns:
        The rows in their old order.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, found {n}")
    names, inverse, sizes = np.unique(
        np.asarray(table["group"].to_pylist(), dtype=object),
        return_inverse=True,
        return_counts=True,
    )
    digests = [hashlib.sha256(f"{seed}\0{name}".encode()).digest() for name in names]
    order = np.asarray(sorted(range(len(names)), key=digests.__getitem__), dtype=np.intp)
    n_groups = max(1, int(np.searchsorted(np.cumsum(sizes[order]), n, side="right")))
    chosen = np.zeros(len(names), dtype=bool)
    chosen[order[:n_groups]] = True
    return table.filter(pa.array(chosen[inverse]))


def _read_descriptions(lists: Lists, run: Runner) -> dict[str, str]:
    return {
        paragraph["Description-md5"]: paragraph["Description-en"]
        for paragraph in read_lists(lists, "Translations", _TRANSLATION_FIELDS, run=run)
        if len(paragraph) == len(_TRANSLATION_FIELDS)
    }


def _read_rows(lists: Lists, descriptions: dict[str, str], run: Runner) -> list[dict[str, object]]:
    rows: dict[str, dict[str, object]] = {}
    for paragraph in read_lists(lists, "Packages", _PACKAGE_FIELDS, run=run):
        name = paragraph.get("Package", "")
        labels = parse_tags(paragraph.get("Tag", ""))
        if not name or (name in rows and (rows[name]["labels"] or not labels)):
            continue
        short = paragraph.get("Description", "")
        text = join_description(descriptions.get(paragraph.get("Description-md5", ""), short))
        if text:
            group = paragraph.get("Source", name).split(" ")[0]
            rows[name] = {
                "id": name,
                "text": text,
                "labels": labels,
                "group": group,
                "source": "debian",
            }
    return [rows[name] for name in sorted(rows)]
