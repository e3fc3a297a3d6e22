"""What each command of ``longtail`` runs: its arguments become a configuration for its flow.

Only the standard library is imported here: each command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
from typing import Any


def demo(arguments: argparse.Namespace) -> int:
    """The whole job on Debian's package index."""
    from flows.demo import run_demo

    return run_demo(arguments.dir, texts=arguments.texts, full=arguments.full)


def retrain(arguments: argparse.Namespace) -> int:
    """A retrain; 0 promoted, 3 blocked or waiting."""
    from flows.config import load_config
    from flows.console import run_retrain

    given = {
        "data.path": arguments.data,
        "name": arguments.name,
        "store": arguments.store,
        "out": arguments.out,
        "stages.force": arguments.force or None,
    }
    return run_retrain(load_config(arguments.config, arguments.set, given))


def predict(arguments: argparse.Namespace) -> int:
    """Labels from the champion."""
    from flows.config import PredictConfig, load_config
    from flows.console import run_predict

    given = {
        "data.path": arguments.data,
        "name": arguments.name,
        "store": arguments.store,
        "out": arguments.out,
        "explain": arguments.explain or None,
    }
    return run_predict(load_config(None, arguments.set, given, PredictConfig))


def compare(arguments: argparse.Namespace) -> int:
    """Losses × seeds × data sets, or a share of them."""
    from flows.config import CompareConfig, load_config
    from flows.console import run_compare
    from longtail.errors import ConfigError

    if not arguments.data and arguments.config is None:
        raise ConfigError("no data: name at least one export, with --data NAME=FILE")
    given: dict[str, Any] = {"out": arguments.out}
    for one in arguments.data:
        name, separator, path = one.partition("=")
        if not separator or not name or not path or "." in name:
            raise ConfigError(f"--data {one}: expected NAME=FILE, such as reuters=reuters.parquet")
        if f"data.{name}.path" in given:
            raise ConfigError(f"--data {one}: {name} is named twice; give each data set its name")
        given[f"data.{name}.path"] = path
    if arguments.losses is not None:
        given["losses"] = arguments.losses.split(",")
    if arguments.seeds is not None:
        given["seeds"] = arguments.seeds.split(",")
    if arguments.shard is not None:
        given["shard"], given["shards"] = arguments.shard
    return run_compare(load_config(arguments.config, arguments.set, given, CompareConfig))


def taxonomy_check(arguments: argparse.Namespace) -> int:
    """What an export would change of the labels; 3 where somebody should look."""
    from flows.config import load_config
    from flows.taxonomy import run_taxonomy_check

    given = {
        "data.path": arguments.data,
        "data.taxonomy": arguments.taxonomy,
        "name": arguments.name,
        "store": arguments.store,
    }
    return run_taxonomy_check(load_config(arguments.config, arguments.set, given), arguments.json)


def taxonomy_init(arguments: argparse.Namespace) -> int:
    """A first taxonomy from an export's labels."""
    from flows.config import load_config
    from flows.taxonomy import run_taxonomy_init

    given = {"data.path": arguments.data}
    return run_taxonomy_init(load_config(arguments.config, arguments.set, given), arguments.out)


def audit(arguments: argparse.Namespace) -> int:
    """What is wrong with an export's annotations, or with a stored data set's."""
    from flows.config import AuditConfig, load_config
    from flows.console import run_audit

    given = {
        "data.path": arguments.data,
        "name": arguments.name,
        "store": arguments.store,
        "out": arguments.out,
    }
    return run_audit(load_config(arguments.config, arguments.set, given, AuditConfig))


def cache(arguments: argparse.Namespace) -> int:
    """List or clear what stages of runs have made."""
    from flows.cache import run_clear, run_list

    if not arguments.clear:
        return run_list(arguments.store)
    return run_clear(arguments.store, arguments.stage, arguments.older_than)


def report(arguments: argparse.Namespace) -> int:
    """A run's report once more."""
    from flows.console import run_report

    return run_report(arguments.run_directory)


def promote(arguments: argparse.Namespace) -> int:
    """A person's yes to a candidate that waits or was blocked."""
    from flows.console import run_promote

    return run_promote(arguments.run_directory, by=arguments.by, reason=arguments.reason)


def watch(arguments: argparse.Namespace) -> int:
    """One look at the inbox, or one every so many seconds."""
    from flows.config import WatchConfig, load_config
    from flows.watch import run_watch

    given = {
        "name": arguments.name, "store": arguments.store, "watch.inbox": arguments.inbox,
    }  # fmt: skip
    config = load_config(arguments.config, arguments.set, given, WatchConfig)
    return run_watch(config, arguments.every)


def receive(arguments: argparse.Namespace) -> int:
    """The receiver of webhooks, until it is ended."""
    from flows.receive import run_receiver

    return run_receiver(arguments.config, host=arguments.host, port=arguments.port)


def rollback(arguments: argparse.Namespace) -> int:
    """The previous champion, or the version named."""
    from flows.console import run_rollback

    return run_rollback(
        name=arguments.name,
        store=arguments.store,
        to=arguments.to,
        by=arguments.by,
        reason=arguments.reason,
    )
