"""The one place that reads YAML: what a file may hold, and errors that name their line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from longtail.errors import ConfigError

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML was built without libyaml: slower, the same otherwise
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 50
MAX_NODES = 500_000
_BOOLEAN = "tag:yaml.org,2002:bool"
_MERGE = "tag:yaml.org,2002:merge"
_BAD_SCALAR = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)


class _Loader(_SafeLoader):
    """YAML with the booleans of YAML 1.2: ``off``, ``no`` and ``on`` are words."""

    yaml_implicit_resolvers: ClassVar = {  # type: ignore[misc]
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN or first in "tTfF"]
        for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
    }


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file.

    Plain data only (YAML 1.1 without its extra booleans), each key once, at most MAX_BYTES long,
    MAX_DEPTH levels deep, and MAX_NODES large once its aliases are written out.

    Args:
        path: local file, UTF-8.

    Returns:
        Dictionaries, lists and plain values; None for an empty file.

    Raises:
        ConfigError: the file cannot be read or is not such YAML; names the file and the line.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{path}: cannot be read ({why}); check the path") from error
    try:
        text = content[:MAX_BYTES].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(content) <= MAX_BYTES:
            raise ConfigError(f"{path}: not YAML (not UTF-8 at byte {error.start})") from error
        text = ""
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"{path}: more than {MAX_BYTES // 1024**2} MiB, which no file of settings needs; "
            "check the path"
        )
    return parse_yaml(text, origin=str(path))


def parse_yaml(text: str, *, origin: str) -> Any:
    """The content of YAML text; see ``read_yaml``.

    Args:
        text: the YAML.
        origin: what error messages call it, such as a file's name.

    Raises:
        ConfigError: as in ``read_yaml``.
    """
    try:
        _measure(text, origin)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            for node in _nodes(root):
                _check(loader, node, origin)
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        line = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{origin}: {line}not YAML ({said})") from error
    except (yaml.YAMLError, UnicodeError) as error:
        said = str(error).splitlines()[0]
        raise ConfigError(f"{origin}: not YAML ({said})") from error


def _measure(text: str, origin: str) -> None:
    """Count levels and nodes, aliases written out, before anything is built of them."""
    anchored: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > MAX_DEPTH + 1:
                raise _too_much(origin, event, f"more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent | yaml.AliasEvent | yaml.ScalarEvent):
            n_nodes = _finished(event, open_nodes, anchored, origin)
            anchor, before = open_nodes[-1]
            open_nodes[-1] = (anchor, before + n_nodes)
            if before + n_nodes > MAX_NODES:
                raise _too_much(origin, event, f"more than {MAX_NODES} values, aliases written out")


def _finished(
    event: yaml.Event,
    open_nodes: list[tuple[str | None, int]],
    anchored: dict[str, int],
    origin: str,
) -> int:
    """How many nodes the node that ends here is, which its anchor is told."""
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in anchored:
            raise _too_much(origin, event, f"*{event.anchor} stands for nothing before it")
        return anchored[event.anchor]
    if isinstance(event, yaml.ScalarEvent):
        anchor, n_nodes = event.anchor, 1
    else:
        anchor, n_nodes = open_nodes.pop()
    if anchor is not None:
        anchored[anchor] = n_nodes
    return n_nodes


def _too_much(origin: str, event: yaml.Event, what: str) -> ConfigError:
    return ConfigError(f"{_line(origin, event)}: {what}; write it plainly")


def _line(origin: str, part: yaml.Event | yaml.Node) -> str:
    return f"{origin}: line {_number(part)}"


def _number(part: yaml.Event | yaml.Node) -> int:
    return part.start_mark.line + 1 if part.start_mark else 1


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Every node once, keys before the mapping that they belong to."""
    seen, waiting = set(), [root]
    ordered = []
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        ordered.append(node)
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
    return reversed(ordered)


def _check(loader: _Loader, node: yaml.Node, origin: str) -> None:
    if isinstance(node, yaml.ScalarNode) and node.tag != _MERGE:
        try:
            hash(loader.construct_object(node))  # a value with the tag of a list cannot be a key
        except _BAD_SCALAR as error:
            shown = node.value[:60]
            raise ConfigError(
                f"{_line(origin, node)}: {shown!r} cannot be read ({error}); quote it"
            ) from error
    elif isinstance(node, yaml.MappingNode):
        _check_keys(loader, node, origin)


def _check_keys(loader: _Loader, node: yaml.MappingNode, origin: str) -> None:
    first: dict[Any, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{_line(origin, key)}: a key must be a plain value; quote it")
        name = key.value if key.tag == _MERGE else loader.construct_object(key)
        if name in first:
            raise ConfigError(
                f"{_line(origin, key)}: {str(name)[:60]!r} stands twice, first in line "
                f"{first[name]}; keep one of them"
            )
        first[name] = _number(key)
