"""A fingerprint of the code behind a function: what must not change for its result to hold."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
from functools import cache
from pathlib import Path

from longtail import storage

_OURS = frozenset({"longtail", "data_contracts", "tasks"})
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "skmultilearn": "scikit-multilearn", "yaml": "pyyaml"}


@cache
def code_fingerprint(*modules: str) -> str:
    """SHA-256 over the source of modules and all that they import, in hexadecimal.

    Followed are imports of Longtail's own packages, wherever they stand in a module; files beside
    the modules of a package count with it. Of other packages the installed version counts. The
    standard library counts as Python's version.

    Args:
        modules: dotted names, such as ``longtail.training``.
    """
    ours, others = _closure(modules)
    sources = {name: _digest(name) for name in ours}
    versions = {name: package_version(name) for name in others}
    return storage.fingerprint(sources, versions, sys.version_info[:2])


def package_version(package: str) -> str | None:
    """The installed version of the distribution behind an import; None where none is found."""
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(package, package))
    except importlib.metadata.PackageNotFoundError:
        return None


def _closure(modules: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """Our modules that run when some of them do, and the other packages that they import."""
    ours: set[str] = set()
    others: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in ours:
            continue
        ours.add(name)
        parent = name.rpartition(".")[0]
        waiting += [parent] if parent else []  # a package's own code runs first
        for imported in _imports(name):
            root = imported.partition(".")[0]
            if root in _OURS:
                waiting.append(imported)
            elif root not in sys.stdlib_module_names:
                others.add(root)
    return ours, others


@cache
def _digest(module: str) -> str:
    """SHA-256 of a module's source; of a package with the files beside it, such as templates."""
    path = _source(module)
    whole = hashlib.sha256(path.read_bytes())
    if path.name == "__init__.py":
        beside = (one for one in path.parent.iterdir() if one.is_file())
        for data in sorted(one for one in beside if not one.name.endswith((".py", ".pyc"))):
            whole.update(f"\0{data.name}\0".encode() + data.read_bytes())
    return whole.hexdigest()


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Dotted names of the modules that a module imports; of ours only those that are files."""
    path = _source(module)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(package, node)
            found.append(base)
            if base.partition(".")[0] in _OURS:
                names = (f"{base}.{alias.name}" for alias in node.names)
                found += [name for name in names if _find(name) is not None]
    return tuple(found)


def _absolute(package: str, node: ast.ImportFrom) -> str:
    """What ``from … import`` names, without leading dots."""
    base = [node.module] if node.module else []
    if not node.level:
        return ".".join(base)
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - node.level + 1], *base])


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
