"""A model's name is a directory of the store, beside what the store keeps for itself."""

from __future__ import annotations

import pytest

from flows.config import PredictConfig, RetrainConfig, load_config
from longtail.errors import ConfigError


@pytest.mark.parametrize("model", [RetrainConfig, PredictConfig])
@pytest.mark.parametrize("name", ["cache", "mlartifacts", "../up", "a/b", "Ä", "", "x" * 64])
def test_a_name_that_cannot_be_a_directory_of_its_own_is_refused(model, name):
    with pytest.raises(ConfigError, match="name"):
        load_config(None, given={"name": name}, model=model)


def test_an_export_whose_file_name_gives_such_a_name_needs_another():
    config = load_config(None, given={"data.path": "exports/Cache 2026-11-22.csv"})
    with pytest.raises(ConfigError, match="--name"):
        _ = config.model_name
    named = load_config(None, given={"data.path": "exports/cache.csv", "name": "tickets"})
    assert named.model_name == "tickets"
