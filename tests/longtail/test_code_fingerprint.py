"""Which changes of the code change a stage's key."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from longtail import code_fingerprint as fingerprints

ROOT = Path(__file__).parents[2]
MODULES = {
    "__init__": "",
    "stage": "from toybox.parts import helper\nimport json\n",
    "parts/__init__": "from . import hidden\n",
    "parts/helper": "from .deep import VALUE\nfrom ..shared import rule\n",
    "parts/deep": "VALUE = 1\n",
    "parts/hidden": "",
    "shared": "def rule():\n    from toybox import late\n    return late\n",
    "late": "import numpy as np\n",
    "unrelated": "VALUE = 1\n",
}


@pytest.fixture
def toybox(tmp_path, monkeypatch):
    """A package that counts as ours; gives a function that writes one of its modules anew."""

    def write(name: str, source: str) -> None:
        path = tmp_path / "toybox" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    for name, source in MODULES.items():
        write(name, source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fingerprints, "_OURS", frozenset({"toybox"}))
    return write


def fresh() -> str:
    """As another process would say it, which remembers nothing."""
    forget()
    return fingerprints.code_fingerprint("toybox.stage")


def forget() -> None:
    for function in ("code_fingerprint", "_find", "_imports", "_digest"):
        getattr(fingerprints, function).cache_clear()


@pytest.fixture(autouse=True)
def _nothing_remembered():
    forget()
    yield
    forget()


@pytest.mark.parametrize(
    "changed",
    ["stage", "parts/helper", "parts/deep", "shared", "late", "parts/__init__", "parts/hidden",
     "__init__"],
)  # fmt: skip
def test_a_changed_module_behind_an_import_changes_the_fingerprint(toybox, changed):
    before = fresh()
    toybox(changed, MODULES[changed] + "# changed\n")

    assert fresh() != before


def test_a_file_beside_the_modules_of_a_package_counts(toybox, tmp_path):
    before = fresh()
    (tmp_path / "toybox" / "parts" / "page.html.j2").write_text("<p>")
    with_file = fresh()
    (tmp_path / "toybox" / "parts" / "page.html.j2").write_text("<b>")

    assert len({before, with_file, fresh()}) == 3


def test_a_module_that_nothing_imports_does_not(toybox):
    before = fresh()
    toybox("unrelated", "VALUE = 2\n")

    assert fresh() == before


def test_nothing_is_imported_to_find_it(toybox):
    toybox("late", "raise RuntimeError('imported')\n")

    assert fresh()
    assert not [name for name in sys.modules if name.startswith("toybox.")]


def test_another_version_of_another_package_changes_it(toybox, monkeypatch):
    before = fresh()
    version = fingerprints.importlib.metadata.version
    monkeypatch.setattr(
        fingerprints.importlib.metadata,
        "version",
        lambda name: "0.0.0" if name == "numpy" else version(name),
    )

    assert fresh() != before


def test_relative_imports_name_what_python_would_import():
    def named(package: str, source: str) -> str:
        node = ast.parse(source).body[0]
        assert isinstance(node, ast.ImportFrom)
        return fingerprints._absolute(package, node)

    assert named("a.b", "from . import c") == "a.b"
    assert named("a.b", "from .c import d") == "a.b.c"
    assert named("a.b", "from ..c import d") == "a.c"
    assert named("a.b", "from x.y import z") == "x.y"


def test_every_package_that_our_stages_import_has_a_version():
    modules = ("tasks.unchanged", "tasks.ingest", "tasks.encoder_arm", "tasks.linear_arm")
    ours, others = fingerprints._closure(modules)

    assert {"longtail", "longtail.losses", "longtail.taxonomy", "data_contracts.ingest"} <= ours
    assert {"numpy", "sklearn", "torch"} <= others
    assert [name for name in others if fingerprints.package_version(name) is None] == []


def test_a_module_that_is_not_there_is_an_error(toybox):
    with pytest.raises(ModuleNotFoundError, match=r"toybox\.nowhere"):
        fingerprints.code_fingerprint("toybox.nowhere")
