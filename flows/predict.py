"""The predict flow: label the texts of a file with the champion."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.config import PredictConfig
from flows.runtime import show_progress
from longtail.errors import ConfigError
from tasks.predict import PredictionHandle, predict_file


@flow(name="predict", validate_parameters=True)
def predict(config: PredictConfig) -> PredictionHandle:
    """Label texts with the champion.

    Args:
        config: what to read, where to write, which model.

    Raises:
        ConfigError: no data was named.
        StoreError: there is no champion.
    """
    show_progress()
    if config.data.path is None:
        raise ConfigError("No texts to label: name a file with --data FILE.")
    name = config.name or only_model(config.store_directory)
    out = Path(config.out) if config.out else default_output(config.data.path)
    store = config.store_directory
    return predict_file(name, store, config.data.path, config.data, out, config.publish)


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


def default_output(data: str) -> Path:
    """Predictions go beside the data: ``tickets.csv`` gives ``tickets.predictions.parquet``."""
    path = Path(data)
    return path.with_name(f"{path.name.split('.')[0]}.predictions.parquet")
