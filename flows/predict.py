"""The predict flow: label the texts of a file with the champion."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.config import PredictConfig
from flows.runners import run_each
from flows.runtime import show_progress
from flows.store import located, open_store
from longtail.errors import ConfigError
from longtail.mirror_scopes import JOURNALS
from tasks.predict import PredictionHandle, prepare_predictions, score_part, write_parts


@flow(name="predict", validate_parameters=True)
def predict(config: PredictConfig) -> PredictionHandle:
    """Label texts with the champion, in parts: a run that was killed goes on where it was.

    Args:
        config: what to read, where to write, which model.

    Raises:
        ConfigError: no data was named.
        StoreError: there is no champion.
    """
    show_progress()
    if config.data.path is None:
        raise ConfigError("No texts to label: name a file with --data FILE.")
    out = output_of(config.out, config.data.path)
    store = open_store(config.store, config.name, config.publish, scopes=[JOURNALS])
    config = located(config)
    parts = prepare_predictions(
        config.name or only_model(store), store, str(config.data.path), config.data, out,
        config.publish, config.part_texts, explain=config.explain,
    )  # fmt: skip
    calls = [(parts, part) for part in parts.missing()]
    for outcome in run_each(config.runner, score_part, calls):
        if isinstance(outcome, ConfigError):
            raise outcome
    return write_parts(parts)


def only_model(store: Path) -> str:
    """The name of the one model in a store.

    Raises:
        ConfigError: there is none, or more than one.
    """
    names = sorted(path.parent.name for path in store.glob("*/promotions.jsonl"))
    if len(names) == 1:
        return names[0]
    if not names:
        raise ConfigError(
            f"{store}: no model has been promoted here yet; train one with longtail retrain, or "
            "name another store with --store"
        )
    raise ConfigError(f"{store}: several models, {', '.join(names)}; choose one with --name")


def output_of(out: str | None, data: str) -> Path:
    """Where predictions go: what was named, else beside the data.

    Raises:
        ConfigError: that is not on this machine.
    """
    if "://" in (out or data):
        raise ConfigError(
            f"{out or data}: predictions are written to a file of this machine; name one with "
            "--out FILE, and copy it from there"
        )
    return Path(out) if out else default_output(data)


def default_output(data: str) -> Path:
    """Predictions go beside the data: ``tickets.csv`` gives ``tickets.predictions.parquet``."""
    path = Path(data)
    return path.with_name(f"{path.name.split('.')[0]}.predictions.parquet")
