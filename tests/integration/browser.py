"""Pictures of the Prefect UI, taken by a headless Chromium, for people to look at.

``python tests/integration/browser.py URL OUT.png [WIDTH HEIGHT]`` waits until the single-page
application has drawn itself and writes a PNG. Tests look at the API instead: a picture is not
asserted on.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# The page's own clock: it runs ahead until nothing is left to load.
_DRAWN_MILLISECONDS = 20_000
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    f"--virtual-time-budget={_DRAWN_MILLISECONDS}",
)


def take_picture(url: str, out: Path, width: int = 1600, height: int = 1400) -> None:
    """Write a PNG of a page.

    Args:
        url: of the page.
        out: the PNG; one that is there is replaced.
        width: of the window, in pixels.
        height: of the window, in pixels.

    Raises:
        FileNotFoundError: there is no Chromium.
        RuntimeError: it took no picture.
    """
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    if browser is None:
        raise FileNotFoundError(f"no browser: install one of {', '.join(_NAMES)}")
    out.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [browser, *_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}",
             f"--screenshot={out.resolve()}", url],
            check=False, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
    if not out.is_file():
        raise RuntimeError(f"{url}: no picture; {browser} said: {done.stderr[-500:]}")


if __name__ == "__main__":
    take_picture(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5]))
