"""The compare flow: data sets × losses × seeds, each trained once, then every policy on all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow, get_run_logger

from flows.command import command_of, file_name
from flows.config import CompareConfig, DataSource
from flows.runners import run_each
from flows.runtime import show_progress
from longtail import storage
from longtail.encoder import load_encoder
from longtail.errors import ConfigError
from longtail.taxonomy import load_taxonomy
from tasks.cells import cell_directory, is_whole, train_cell
from tasks.combined import combine_cells
from tasks.evidence import descriptions_of
from tasks.handles import RunHandle, SplitHandle
from tasks.ingest import ingest_export, update_dataset
from tasks.leaderboard import Cell, Combined, DataSet, combinations, write_leaderboard
from tasks.split import split_dataset
from tasks.train import train_linear

PREPARED = "prepared.json"


@flow(name="compare", flow_run_name="compare-{config.out}", validate_parameters=True)
def compare(config: CompareConfig) -> Path | None:
    """Train every loss with every seed on every data set, and write the leaderboard.

    What is there already is not trained again, so that a comparison goes on where it was killed,
    and several shards share one directory.

    Args:
        config: everything there is to set; docs/reference/configuration.md.

    Returns:
        The page; None while cells of other shards are still to come.
    """
    show_progress()
    root = Path(config.out).resolve()
    data_sets = [_prepare(root, name, source, config) for name, source in config.data.items()]
    cells = _cells(root, config, data_sets)
    mine = [cell for number, cell in enumerate(cells) if number % config.shards == config.shard]
    _train(root, mine, config)
    missing = sum(not is_whole(cell.directory) for cell in cells)
    if missing:
        get_run_logger().info("%d cells of other shards are still to come", missing)
        return None
    combined = _combine(root, data_sets, cells)
    return write_leaderboard(
        root, data_sets, cells, combined, config.policies, config.fused, command_of(config)
    )


def _prepare(root: Path, name: str, source: DataSource, config: CompareConfig) -> DataSet:
    """Ingest and split a data set and fit its linear arm, once for all shards and losses.

    An export, a taxonomy, corrections or settings that have changed get a directory of their own:
    nothing is overwritten that another shard may be reading, and no text of the old export is left
    in the new data set.
    """
    path = str(source.path)
    sha256 = storage.sha256_file(path)
    settings = [source.model_dump(mode="json", exclude={"path"})]
    settings += [part.model_dump(mode="json")
                 for part in (config.split, config.groups, config.linear)]  # fmt: skip
    if source.taxonomy is not None:
        settings.append({"taxonomy": load_taxonomy(source.taxonomy).fingerprint})
    if source.corrections is not None:
        settings.append({"corrections": storage.sha256_file(source.corrections)})
    directory = root / "data" / name / storage.fingerprint(sha256, settings)[:12]
    handle = DataSet(
        name=name, directory=directory, split=SplitHandle.of(directory),
        export=file_name(path), sha256=sha256,
    )  # fmt: skip
    with storage.lock(directory.with_suffix(".lock"), timeout=3600.0):
        if not (directory / PREPARED).is_file():
            _fill(handle, source, config)
            storage.write_json(directory / PREPARED, {"export": sha256, "settings": settings})
    return handle


def _fill(handle: DataSet, source: DataSource, config: CompareConfig) -> None:
    run = RunHandle(
        id="compare", name=handle.name, directory=handle.directory,
        store=handle.directory / "store", started_at="",
    )  # fmt: skip
    accepted = ingest_export(run, str(source.path), source)
    dataset = update_dataset(run, accepted, source, merge_duplicates=source.merges_duplicates)
    split = split_dataset(run, dataset, source, config.split, config.groups)
    train_linear(run, split, config.linear)


def _cells(root: Path, config: CompareConfig, data_sets: Sequence[DataSet]) -> list[Cell]:
    """All cells, the first seed of every data set and loss before the second of any."""
    encoder = load_encoder(config.encoder).fingerprint
    descriptions = _descriptions(config)
    cells = []
    for seed in config.seeds:
        settings = config.training.model_copy(update={"seed": seed})
        for loss in config.losses:
            for data in data_sets:
                directory = cell_directory(
                    root / "data" / data.name / "cells", data.split, encoder, settings, loss,
                    descriptions[data.name],
                )  # fmt: skip
                cells.append(
                    Cell(data=data.name, split=data.split, loss=loss, seed=seed,
                         directory=directory)
                )  # fmt: skip
    return cells


def _train(root: Path, cells: Sequence[Cell], config: CompareConfig) -> None:
    """Train what is not there yet; a loss that diverges does not keep the others from it.

    Raises:
        ConfigError: at the end, where a cell could not be trained.
    """
    waiting = [cell for cell in cells if not is_whole(cell.directory)]
    get_run_logger().info("%d of %d cells are to be trained", len(waiting), len(cells))
    cache = root / "cache" / "activations"
    descriptions = _descriptions(config)
    calls = [
        (cell.directory, cell.split, config.encoder,
         config.training.model_copy(update={"seed": cell.seed}), cell.loss,
         descriptions[cell.data], cache, config.slot)
        for cell in waiting
    ]  # fmt: skip
    failed = []
    for cell, outcome in zip(waiting, run_each(config.runner, train_cell, calls), strict=True):
        if isinstance(outcome, ConfigError):
            failed.append(f"{cell.title} with seed {cell.seed} on {cell.data} ({outcome})")
    if failed:
        raise ConfigError(
            f"{len(failed)} of {len(cells)} cells could not be trained: {'; '.join(failed)}. The "
            "others are kept: leave these losses out, or change the training, and start again"
        )


def _descriptions(config: CompareConfig) -> dict[str, dict[str, list[str]]]:
    """By data set, what its taxonomy says of the labels."""
    return {name: descriptions_of(source.taxonomy) for name, source in config.data.items()}


def _combine(root: Path, data_sets: Sequence[DataSet], cells: Sequence[Cell]) -> list[Combined]:
    """The candidate of every data set and seed, made where it is not there yet."""
    found = []
    for data in data_sets:
        mine = [cell for cell in cells if cell.data == data.name]
        for one in combinations(root / "data" / data.name / "combined", data, mine):
            if not is_whole(one.directory):
                linear = data.directory / "arms" / "linear"
                combine_cells(
                    one.directory, data.split, linear, one.own.directory, one.bce.directory
                )
            found.append(one)
    return found
