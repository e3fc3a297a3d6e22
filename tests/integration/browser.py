"""Pictures of the Prefect UI, taken by a headless Chromium, for people to look at.

``python tests/integration/browser.py URL OUT.png [TEXT ...]`` opens a page, clicks what carries
each TEXT in turn (a button, a tab), or with LABEL=VALUE fills the field of that label, and writes a
PNG. Tests look at the API instead: a picture is not asserted on.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

_NAMES = ("chromium", "chromium-browser", "google-chrome")
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
    "--remote-debugging-port=0",
    "about:blank",
)
_DRAW_SECONDS = 6.0
_FIND_SECONDS = 60.0
_CLICK = """(text => {
  const every = [...document.querySelectorAll('button, a, [role=tab], label, li')];
  const found = every.filter(one => one.innerText && one.innerText.trim() === text);
  if (found.length) found[found.length - 1].click();
  return found.length > 0;
})(%s)"""

_FILL = """((label, value) => {
  const every = [...document.querySelectorAll('label, legend, p, span, div')];
  const found = every.filter(one => one.innerText && one.innerText.trim() === label).pop();
  for (let here = found; here; here = here.parentElement) {
    const field = here.querySelector('input, textarea');
    if (!field) continue;
    const setter = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value').set;
    setter.call(field, value);
    for (const name of ['input', 'change', 'blur'])
      field.dispatchEvent(new Event(name, {bubbles: true}));
    field.scrollIntoView({block: 'center'});
    return true;
  }
  return false;
})(%s, %s)"""


def take_picture(
    url: str, out: Path, clicks: Sequence[str] = (), width: int = 1600, height: int = 1400
) -> None:
    """Write a PNG of a page.

    Args:
        url: of the page.
        out: the PNG.
        clicks: texts of what to click on first, one after the other; LABEL=VALUE fills a field.
        width: of the window, in pixels.
        height: of the window, in pixels.

    Raises:
        FileNotFoundError: there is no Chromium.
        TimeoutError: nothing on the page carries such a text.
    """
    with _page(width, height) as call:
        call("Page.navigate", url=url)
        time.sleep(_DRAW_SECONDS)
        for text in clicks:
            _act(call, text)
            time.sleep(_DRAW_SECONDS)
        shot = call("Page.captureScreenshot", format="png")
        out.write_bytes(base64.b64decode(shot["data"]))


def _act(call: Any, text: str) -> None:
    deadline = time.monotonic() + _FIND_SECONDS
    while True:
        label, given, value = text.partition("=")
        asked = (
            _FILL % (json.dumps(label), json.dumps(value)) if given else _CLICK % json.dumps(text)
        )
        if call("Runtime.evaluate", expression=asked, returnByValue=True)["result"]["value"]:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing on the page carries the text {text!r}")
        time.sleep(0.5)


@contextlib.contextmanager
def _page(width: int, height: int) -> Iterator[Any]:
    """Commands of the DevTools protocol to the one page of a browser of its own."""
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    if browser is None:
        raise FileNotFoundError(f"no browser: install one of {', '.join(_NAMES)}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [browser, f"--user-data-dir={profile}", f"--window-size={width},{height}", *_FLAGS],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with connect(_address(Path(profile)), max_size=None) as socket:
                numbers = itertools.count(1)
                yield lambda method, **given: _call(socket, next(numbers), method, given)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _address(profile: Path) -> str:
    """The page's socket, once the browser has said on which port it listens."""
    deadline = time.monotonic() + _FIND_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            port = int((profile / "DevToolsActivePort").read_text().splitlines()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as response:
                pages = json.load(response)
            return next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page")
        time.sleep(0.2)
    raise TimeoutError("the browser did not start")


def _call(socket: ClientConnection, number: int, method: str, given: dict[str, Any]) -> Any:
    socket.send(json.dumps({"id": number, "method": method, "params": given}))
    while True:
        said = json.loads(socket.recv(timeout=60))
        if said.get("id") == number:
            return said.get("result", {})


if __name__ == "__main__":
    take_picture(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
