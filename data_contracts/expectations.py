"""The only place that speaks to Great Expectations, which takes seconds to import."""

from __future__ import annotations

import datetime as dt
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data_contracts.suites import Rule, Suite

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """A rule that did not hold.

    Attributes:
        rule: the rule.
        rows: row numbers (0-based rows of the frame) that break it, ascending.
    """

    rule: Rule
    rows: tuple[int, ...]


class Validation:
    """A suite held against one frame after another, in one ephemeral context.

    Nothing is left behind but the pages that are asked for.
    """

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self._context: Any = None
        self._definition: Any = None

    def check(self, frame: pd.DataFrame, name: str | None = None) -> list[Finding]:
        """Check helper columns against the suite.

        Args:
            frame: one numeric column per helper column that the suite names.
            name: what the pages call these rows.

        Returns:
            One finding per broken rule, in the suite's order.

        Raises:
            RuntimeError: Great Expectations could not check a rule; an unchecked rule is no pass.
        """
        if frame.empty:
            return []
        with warnings.catch_warnings():
            # Its dependencies' deprecations are neither ours to mend nor the user's to read.
            warnings.simplefilter("ignore")
            results = self._run(frame.reset_index(drop=True), name)
        rules = {rule.name: rule for rule in self.suite.rules}
        checked = {name: _broken_rows(name, result) for name, result in results.items()}
        if missing := set(rules) - set(checked):
            raise RuntimeError(
                f"suite {self.suite.name}: not checked: {', '.join(sorted(missing))}"
            )
        return [Finding(rules[name], rows) for name in rules if (rows := checked[name])]

    def write_pages(self, folder: Path) -> None:
        """Write Data Docs: one page for each frame that was checked."""
        if self._context is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _write_data_docs(self._context, folder)

    def _run(self, frame: pd.DataFrame, name: str | None) -> dict[str, Any]:
        """Results by rule name."""
        from great_expectations.core.run_identifier import RunIdentifier

        if self._definition is None:
            self._context, self._definition = _prepared(self.suite)
        outcome = self._definition.run(
            batch_parameters={"dataframe": frame},
            # Without named columns the rows come as their numbers, at once and not one by one.
            result_format={"result_format": "COMPLETE", "partial_unexpected_count": 0},
            run_id=RunIdentifier(run_name=name, run_time=dt.datetime.now(dt.UTC)),
        )
        return {entry.expectation_config.meta["rule"]: entry for entry in outcome.results}


def validate(frame: pd.DataFrame, suite: Suite, data_docs: Path | None = None) -> list[Finding]:
    """Check one frame against a suite; see :class:`Validation`.

    Args:
        frame: one numeric column per helper column that the suite names.
        suite: the rules.
        data_docs: folder for the human pages; None writes none.
    """
    validation = Validation(suite)
    findings = validation.check(frame)
    if data_docs is not None:
        validation.write_pages(data_docs)
    return findings


def _prepared(suite: Suite) -> tuple[Any, Any]:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral", project_config=_project_config())
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    # All at once: every single addition would write the whole suite to the store again.
    expectations = context.suites.add(
        gx.ExpectationSuite(suite.name, expectations=[_expectation(rule) for rule in suite.rules])
    )
    source = context.data_sources.add_pandas("longtail")
    batch = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("all")
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=suite.name, data=batch, suite=expectations)
    )
    return context, definition


def _project_config() -> Any:
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
    )

    return DataContextConfig(
        analytics_enabled=False,
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
    )


def _expectation(rule: Rule) -> Any:
    import great_expectations.expectations as gxe

    return gxe.ExpectColumnValuesToBeBetween(
        column=rule.column,
        min_value=rule.minimum,
        max_value=rule.maximum,
        severity=rule.severity,
        description=rule.description,
        meta={"rule": rule.name},
    )


def _write_data_docs(context: Any, folder: Path) -> None:
    """Data Docs are for people: failing to write them must not fail the data."""
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(folder.absolute()),
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    context.add_data_docs_site(site_name="longtail", site_config=site)
    context.build_data_docs(site_names=["longtail"])
    logger.info("Data Docs written to %s", folder / "index.html")


def _broken_rows(name: str, entry: Any) -> tuple[int, ...]:
    result: Mapping[str, Any] = entry.result
    if "element_count" not in result:
        raise RuntimeError(f"rule {name} could not be checked: {entry.exception_info}")
    if entry.success:
        return ()
    return tuple(sorted(int(row) for row in result["unexpected_index_list"]))
