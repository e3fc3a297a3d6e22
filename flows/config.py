"""The configuration of each flow: what the form, the profiles and the command line share."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from longtail.config import (
    AuditSettings,
    CombinationSettings,
    DataSettings,
    EncoderSettings,
    GatePolicy,
    GroupSettings,
    LinearSettings,
    LossSettings,
    PublishSettings,
    RetentionSettings,
    Settings,
    SplitSettings,
    StageSettings,
    ThresholdPolicy,
    ThresholdSettings,
    TrainingSettings,
    WatchSettings,
)
from longtail.errors import ConfigError
from longtail.losses.spec import resolve_spec
from longtail.mirror_paths import directory_of, is_remote
from longtail.yaml_files import parse_yaml, read_yaml

ConfigT = TypeVar("ConfigT", bound=Settings)


STORE_VARIABLE = "LONGTAIL_STORE"
DEFAULT_STORE = "longtail-store"
DEFAULT_AUDIT = "audit"
DEPLOYMENT = "deployment"
"""Section of a profile that is not a part of a run's configuration: flows/deployment.py."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
# The store keeps something else under these names.
_TAKEN = frozenset({"cache", "mlartifacts", "objects"})
_DATED = re.compile(r"[-_. ]*(19|20)\d\d[-_.]?(w\d\d|\d\d([-_.]?\d\d)?)?$")


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a name: lower-case letters, digits, '-' and '_', at most 63"
        )
    if name in _TAKEN:
        raise ValueError(
            f"{name!r} is what the store calls a directory of its own; choose another name"
        )
    return name


def _check_loss(loss: LossSettings) -> LossSettings:
    try:
        for candidate in loss.candidates:
            resolve_spec(candidate)
    except ConfigError as error:  # pydantic makes a ValueError the key's own problem
        raise ValueError(str(error)) from error
    return loss


ModelName = Annotated[str, AfterValidator(_check_name)]


class DataSource(DataSettings):
    """The export to read, and how."""

    path: str | None = Field(
        None,
        description="File or fsspec URL of the export; without one, the data set is retrained on "
        "as it is stored.",
    )

    @property
    def merges_duplicates(self) -> bool:
        """What was asked for, else whether the data leaves the split to us."""
        asked = self.merge_duplicates
        return self.columns.split is None if asked is None else asked


class RetrainConfig(Settings):
    """One retrain, from the export to the verdict."""

    name: ModelName | None = Field(
        None,
        description="Name of the model, its data set and its champion. By default the export's "
        "file name without its date.",
    )
    data: DataSource = DataSource()
    store: str | None = Field(
        None,
        description=f"Directory of everything that persists between runs, or s3://BUCKET/PREFIX "
        f"for workers to share; by default ${STORE_VARIABLE}, else ./{DEFAULT_STORE}.",
    )
    out: str | None = Field(
        None, description="Directory of this run's results; by default a new one in the store."
    )
    audit: AuditSettings = AuditSettings()
    split: SplitSettings = SplitSettings()
    encoder: EncoderSettings = EncoderSettings()
    training: TrainingSettings = TrainingSettings()
    loss: Annotated[LossSettings, AfterValidator(_check_loss)] = LossSettings()
    linear: LinearSettings = LinearSettings()
    combination: CombinationSettings = CombinationSettings()
    thresholds: ThresholdSettings = ThresholdSettings()
    groups: GroupSettings = GroupSettings()
    gate: GatePolicy = GatePolicy()
    publish: PublishSettings = PublishSettings()
    approval: Literal["never", "on_override", "required"] = Field(
        "never",
        description="Whom a verdict waits for. never: it is carried out; on_override: a passing "
        "one is, a block waits for a person who may override it; required: every verdict waits.",
    )
    approval_days: float = Field(
        7.0, gt=0.0, description="Days that a verdict waits; then the champion stays."
    )
    stages: StageSettings = StageSettings()
    retention: RetentionSettings = RetentionSettings()

    @property
    def model_name(self) -> str:
        """The name given, else the one that the export's file name gives."""
        if self.name is not None:
            return self.name
        if self.data.path is None:
            raise ConfigError("Neither a name nor data given: say which model, with --name NAME.")
        name = name_of(self.data.path)
        if name in _TAKEN:
            raise ConfigError(
                f"{self.data.path}: the store has a directory of its own called {name!r}, so the "
                "model needs another name; give it one with --name NAME"
            )
        return name

    @property
    def store_directory(self) -> Path:
        """Where everything that persists is kept."""
        return store_directory(self.store)


class RunnerSettings(Settings):
    """Where the cells of a comparison are trained, and the parts of a file are labelled."""

    kind: Literal["threads", "dask", "ray"] = Field(
        "threads",
        description="threads: in the flow's own process; dask, ray: on the workers of a cluster.",
    )
    workers: int = Field(
        1, ge=1, description="How many work at a time; of a cluster that is there, it decides."
    )
    address: str | None = Field(
        None,
        description="Scheduler of a dask cluster or head of a ray cluster that is there already; "
        "without it one is started on this machine for the run.",
    )
    gpus: float = Field(
        0.0, ge=0.0, description="ray: GPUs that each task asks for; it sees none without asking."
    )

    @model_validator(mode="after")
    def _fits_the_kind(self) -> RunnerSettings:
        if self.address is not None and self.kind == "threads":
            raise ValueError("an address is that of a cluster, but the kind is threads")
        if self.gpus and self.kind != "ray":
            raise ValueError(f"gpus are asked of ray, but the kind is {self.kind}")
        return self


def _check_watched(data: DataSource) -> DataSource:
    if data.path is not None:
        raise ValueError("a watch reads what comes to watch.inbox; leave data.path out")
    if data.export == "full":
        raise ValueError(
            "what comes to an inbox is collected, and of several full exports none is the whole; "
            "take delta, and give a full export to a retrain of its own"
        )
    return data


class WatchConfig(Settings):
    """One look at an inbox."""

    name: ModelName = Field(description="Name of the model that is trained on what comes.")
    store: str | None = None
    data: Annotated[DataSource, AfterValidator(_check_watched)] = Field(
        DataSource(), description="How the files are read; as in the retrain's configuration."
    )
    watch: WatchSettings = WatchSettings()

    @property
    def store_directory(self) -> Path:
        """Where everything that persists is kept."""
        return store_directory(self.store)


class PredictConfig(Settings):
    """One batch of predictions with the champion."""

    name: ModelName | None = Field(
        None, description="Name of the model; needed if the store has many."
    )
    data: DataSource = DataSource()
    store: str | None = None
    out: str | None = Field(None, description="Parquet, CSV or JSONL file to write.")
    publish: PublishSettings = PublishSettings()
    part_texts: int = Field(
        10_000,
        ge=1,
        description="Texts that are labelled and kept at a time: what is lost when it is killed.",
    )
    explain: bool = Field(
        False,
        description="Give for each label the words, similar annotated texts and sources of "
        "evidence that support it.",
    )
    runner: RunnerSettings = RunnerSettings()

    @property
    def store_directory(self) -> Path:
        """Where everything that persists is kept."""
        return store_directory(self.store)


class AuditConfig(Settings):
    """One audit, of an export or of a stored data set."""

    name: ModelName | None = Field(
        None, description="Name of the stored data set; with an export, what its page is called."
    )
    data: DataSource = DataSource()
    store: str | None = None
    out: str | None = Field(
        None,
        description="Directory of the results; by default ./audit for an export, and a new one in "
        "the store for a stored data set.",
    )
    audit: AuditSettings = AuditSettings()

    @property
    def model_name(self) -> str:
        """The name given, else the one that the export's file name gives."""
        if self.name is None and self.data.path is None:
            raise ConfigError(
                "Nothing to audit: name an export with --data FILE, or a stored data set with "
                "--name NAME."
            )
        return self.name or name_of(str(self.data.path))

    @property
    def store_directory(self) -> Path:
        """Where the stored data sets are."""
        return store_directory(self.store)

    @property
    def directory(self) -> str | None:
        """Where the results go; None for a new directory in the store."""
        return self.out or (None if self.data.path is None else DEFAULT_AUDIT)


def _check_one_loss(loss: LossSettings) -> LossSettings:
    if loss.name == "auto":
        raise ValueError("auto chooses among losses; name the losses that are to be compared")
    return loss


def _named_losses(value: Any) -> Any:
    """A loss may be given by its name alone."""
    if not isinstance(value, list | tuple):
        return value
    return [{"name": one} if isinstance(one, str) else one for one in value]


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for one in values:
        if values.count(one) > 1:
            raise ValueError(f"{getattr(one, 'name', one)} is there twice; name each once")
    return values


class CompareConfig(Settings):
    """Losses compared on several data sets with several seeds."""

    data: dict[ModelName, DataSource] = Field(
        min_length=1, description="The data sets by name, each with its export and how to read it."
    )
    losses: Annotated[
        tuple[
            Annotated[LossSettings, AfterValidator(_check_one_loss), AfterValidator(_check_loss)],
            ...,
        ],
        BeforeValidator(_named_losses),
        AfterValidator(_each_once),
    ] = Field(
        tuple(LossSettings(name=name) for name in ("bce", "ntr-focal", "db-soft", "db")),
        min_length=1,
        description="Losses, by name or with options; bce is what the others are compared with.",
    )
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(_each_once)] = Field(
        (0, 1, 2), min_length=1, description="Seeds of the training."
    )
    policies: Annotated[tuple[ThresholdPolicy, ...], AfterValidator(_each_once)] = Field(
        ("group",), min_length=1, description="Threshold policies; figures show the first one."
    )
    fused: Annotated[tuple[bool, ...], AfterValidator(_each_once)] = Field(
        (False, True), min_length=1, description="The encoder alone, and fused with the linear arm."
    )
    out: str = Field("comparison", description="Directory of the comparison; it goes on there.")
    shards: int = Field(1, ge=1, description="Among how many processes the cells are divided.")
    shard: int = Field(0, ge=0, description="Number of this process, from 0.")
    slot: str | None = Field(
        None,
        description="Training slot that each cell holds, as retrains do (stages.slot); null: cells "
        "train side by side with whatever else trains.",
    )
    split: SplitSettings = SplitSettings()
    encoder: EncoderSettings = EncoderSettings()
    training: TrainingSettings = TrainingSettings()
    linear: LinearSettings = LinearSettings()
    groups: GroupSettings = GroupSettings()
    runner: RunnerSettings = RunnerSettings()

    @model_validator(mode="after")
    def _complete(self) -> CompareConfig:
        if self.runner.kind == "threads" and self.runner.workers > 1:
            raise ValueError(
                "runner: threads train one cell at a time, since they share one generator of "
                "random numbers; for several take runner.kind=dask, or --shard"
            )
        if self.shard >= self.shards:
            raise ValueError(f"shard {self.shard} of {self.shards}: they are counted from 0")
        for name, source in self.data.items():
            if source.path is None:
                raise ValueError(f"{name} has no export: name it with --data {name}=FILE")
        return self


def named_store(store: str | None) -> str:
    """The store named, else the one of the environment, else the default."""
    return store or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE


def store_directory(store: str | None) -> Path:
    """The directory of a store: of one that workers share, the mirror on this machine."""
    named = named_store(store)
    if is_remote(named):
        return directory_of(named)
    return Path(named.removeprefix("file://")).resolve()


def name_of(path: str) -> str:
    """A model's name from an export's file name: without extension and trailing date.

    ``exports/Tickets 2026-11-22.csv`` and ``tickets_2026-W48.jsonl`` are both ``tickets``.
    """
    stem = Path(path).name.split(".")[0].lower()
    name = re.sub(r"[^a-z0-9_-]+", "-", _DATED.sub("", stem)).strip("-_")[:63]
    return name or "model"


def load_config(
    file: str | None,
    overrides: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
    model: type[ConfigT] = RetrainConfig,  # type: ignore[assignment]  # python/mypy#3737
    section: str | None = None,
) -> ConfigT:
    """A configuration from a YAML file, ``key.path=value`` overrides and direct values.

    Args:
        file: YAML file; None for the defaults.
        overrides: such as ``loss.name=focal``; the value is YAML, or what a text is that is not
            YAML, such as a separator.
        given: dotted keys to values, None being left out; wins over the rest.
        model: the configuration's class.
        section: read this section of the file alone. Without it, the section ``deployment`` is
            left out: it is not about a run.

    Raises:
        ConfigError: a file that cannot be read, an unknown key or a wrong value.
    """
    values = _read_profile(file) if file else {}
    origin = file or "command line"
    if section is None:
        values.pop(DEPLOYMENT, None)
    else:
        values = _section(values, section, origin)
        origin = f"{origin}, {section}"
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set {override}: expected KEY=VALUE, such as loss.name=focal")
        _put(values, key.strip(), _override(override, text))
    for key, value in (given or {}).items():
        if value is not None:
            _put(values, key, value)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(origin, values, error)) from error


def _override(override: str, text: str) -> Any:
    """The value of ``--set``; a separator such as ``,`` or ``|`` is one, though not in YAML."""
    try:
        value = parse_yaml(text, origin=f"--set {override}")
    except ConfigError:
        if text.lstrip()[:1] in set("[{\"'"):
            raise
        return text
    spelled_out = text.strip() in {"", "~", "null", "Null", "NULL", "''", '""'}
    return value if spelled_out or value not in (None, "") else text


def _read_profile(file: str) -> dict[str, Any]:
    values = read_yaml(file)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected keys and values, found a {type(values).__name__}")
    return values


def _section(values: Mapping[str, Any], section: str, origin: str) -> dict[str, Any]:
    found = values.get(section)
    if found is not None and not isinstance(found, dict):
        raise ConfigError(f"{origin}: {section} is a value ({found!r}), not a section")
    return found or {}


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    here = values
    for parent in parents:
        below = here.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ConfigError(f"{key}: {parent} is a value ({below!r}), not a section")
        here = below
    here[last] = value


def _explain(origin: str, values: Mapping[str, Any], error: ValidationError) -> str:
    found: dict[str, list[str]] = {}
    for problem in error.errors():
        said = problem["msg"]
        if problem["type"] == "extra_forbidden":
            said = "no such setting; see docs/reference/configuration.md"
        elif problem["type"] == "value_error":  # ours: it says what was found
            said = said.removeprefix("Value error, ")
        else:
            said = f"{said}, found {problem['input']!r}"
        found.setdefault(_key(values, problem["loc"]), []).append(said)
    return f"{origin}: " + "; ".join(f"{key}: {' or '.join(said)}" for key, said in found.items())


def _key(values: Mapping[str, Any], location: Sequence[int | str]) -> str:
    """The setting's own key: pydantic goes on with the members of a union."""
    keys: list[str] = []
    here: Any = values
    for part in location:
        if not isinstance(here, Mapping) or part not in here:
            break
        keys.append(str(part))
        here = here[part]
    return ".".join(keys) or "configuration"
