"""A fingerprint of the code behind a function: what must not change for its result to hold."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from longtail import storage

_OURS = frozenset({"longtail", "data_contracts", "tasks"})
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "skmultilearn": "scikit-multilearn", "yaml": "pyyaml"}


@cache
def code_fingerprint(*modules: str) -> str:
    """SHA-256 over the source of modules and all that they import, in hexadecimal.

    Followed are imports of Longtail's own packages, wherever they stand in a module. Of other
    packages the installed version counts. The standard library counts as Python's version.

    Args:
        modules: dotted names, such as ``longtail.training``.
    """
    ours, others = _closure(modules)
    sources = {name: hashlib.sha256(_source(name).read_bytes()).hexdigest() for name in ours}
    versions = {name: _version(name) for name in others}
    return storage.fingerprint(sources, versions, sys.version_info[:2])


def _closure(modules: tuple[str, ...]) -> tuple[set[str], set[str]]:
    ours: set[str] = set()
    others: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in ours:
            continue
        ours.add(name)
        for imported in _imports(name):
            root = imported.partition(".")[0]
            if root in _OURS:
                waiting.append(imported)
            elif root not in sys.stdlib_module_names:
                others.add(root)
    return ours, others


def _imports(module: str) -> Iterator[str]:
    """Dotted names of the modules that a module imports; of ours only those that are files."""
    path = _source(module)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            yield base
            if base.partition(".")[0] in _OURS:
                names = (f"{base}.{alias.name}" for alias in node.names)
                yield from (name for name in names if _find(name) is not None)


def _source(module: str) -> Path:
    path = _find(module)
    if path is None:
        raise ModuleNotFoundError(f"no source of {module}")
    return path


@cache
def _find(module: str) -> Path | None:
    """The file of one of our modules; looked for by its name, so that nothing is imported."""
    root, *below = module.split(".")
    spec = importlib.util.find_spec(root)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent.joinpath(*below)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(package, package))
    except importlib.metadata.PackageNotFoundError:
        return "none"
