"""What others published for data sets that are compared here, and what differs from ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A published table.

    Attributes:
        name: what the names of its data set begin with.
        labels: number of labels of the data set.
        source: where the figures stand.
        encoder: what was trained.
        parameters: of it.
        figures: our name of each loss to (its name there, micro-F1, macro-F1), both in [0, 1].
    """

    name: str
    labels: int
    source: str
    encoder: str
    parameters: int
    figures: dict[str, tuple[str, float, float]]


REUTERS = Published(
    name="reuters",
    labels=90,
    source="Huang et al., Balancing Methods for Multi-label Text Classification with Long-Tailed "
    "Class Distribution, EMNLP 2021, table 2",
    encoder="BERT-base",
    parameters=110_000_000,
    figures={
        "linear": ("SVM", 0.8760, 0.5163),
        "bce": ("BCE", 0.8914, 0.4732),
        "focal": ("FL", 0.8997, 0.5683),
        "r-focal": ("R-FL", 0.8947, 0.5435),
        "ntr-focal": ("NTR-FL", 0.9070, 0.6070),
        "cb-ntr": ("CB-NTR", 0.9074, 0.6331),
        "db": ("DB", 0.9062, 0.6447),
    },
)


def published_for(name: str, labels: int) -> Published | None:
    """The published table of a data set, told by its name and number of labels."""
    if name.startswith(REUTERS.name) and labels == REUTERS.labels:
        return REUTERS
    return None
