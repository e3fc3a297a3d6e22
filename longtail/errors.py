"""The errors a user can mend: each message says where, what was found and what to do."""

from __future__ import annotations


class LongtailError(Exception):
    """Base of every error whose message is written for the user; shown without a traceback."""


class DataError(LongtailError):
    """The data cannot be used: the message names the file and, where there is one, the row."""


class EmptyExportError(DataError):
    """An export without a single row; in a week without annotations that is as it should be."""


class ConfigError(LongtailError):
    """The configuration or the command line asks for something impossible."""


class StoreError(LongtailError):
    """The store (data set, ledger, registry, cache) is missing, damaged or in use."""


class TrainingError(LongtailError):
    """A training ended before it was done, for a reason outside the data and the settings."""


class OutOfMemoryError(TrainingError):
    """A training asked for more memory than its device or the machine has."""
