"""A worker with a mirror of its own that appends to a journal of a shared store."""

from __future__ import annotations

import os
import sys

from longtail import lease
from longtail.mirror import open_mirror
from tasks.journal import Journal

url, mirror, count, seconds = sys.argv[1:]
os.environ["LONGTAIL_MIRROR"] = mirror
lease.SECONDS = float(seconds)
journal = Journal(open_mirror(url).root / "tickets" / "looks.jsonl")
for number in range(int(count)):
    journal.append({"worker": mirror, "number": number})
    print(number, flush=True)
