"""The configuration: from YAML and the command line to one validated, frozen model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from flows import reference
from flows.config import (
    CompareConfig,
    PredictConfig,
    RetrainConfig,
    load_config,
    name_of,
    store_directory,
)
from flows.deployment import DeploymentSettings
from longtail.errors import ConfigError

ROOT = Path(__file__).parents[2]
PROFILES = sorted((ROOT / "deployments" / "profiles").glob("*.yaml"))


@pytest.fixture
def profile(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "profile.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_without_anything_every_setting_has_its_default():
    assert load_config(None) == RetrainConfig()


def test_the_command_line_wins_over_the_profile_and_what_is_given_over_both(profile):
    file = profile("name: tickets\ntraining: {epochs: 7, batch_size: 8}\n")

    config = load_config(file, ["training.epochs=2", "name=desk"], {"name": "shop", "out": None})

    assert (config.training.epochs, config.training.batch_size) == (2, 8)
    assert (config.name, config.out) == ("shop", None)


def test_an_override_makes_the_sections_on_its_way():
    config = load_config(None, ["gate.floors.micro_f1=0.5", "data.columns.id=key"])

    assert config.gate.floors == {"micro_f1": 0.5}
    assert config.data.columns.id == "key"


@pytest.mark.parametrize(
    "separator", ["|", ",", ";", "#", "\t", "@", "*", ":", "&", "!", "%", "||", "'|'"]
)
def test_a_separator_is_taken_as_it_was_typed(separator):
    """Most of them mean something in YAML: `#` is a comment and `|` starts a block."""
    config = load_config(None, [f"data.label_separator={separator}"])

    assert config.data.label_separator == separator.strip("'")


@pytest.mark.parametrize("nothing", ["", "null", "~"])
def test_null_can_still_be_said(nothing):
    config = load_config(None, ["name=desk", f"name={nothing}", "data.columns.group=null"])

    assert config.name is None
    assert config.data.columns.group is None


def test_off_is_a_word_and_not_a_boolean(profile):
    assert load_config(None, ["gate.linear=off"]).gate.linear == "off"
    assert load_config(profile("gate: {linear: off}")).gate.linear == "off"
    assert load_config(None, ["training.cache=false"]).training.cache is False


@pytest.mark.parametrize(
    ("override", "key", "why"),
    [
        ("training.epochs=0", "training.epochs", "greater than or equal to 1, found 0"),
        ("training.epoch=3", "training.epoch", "no such setting"),
        ("nonsense=1", "nonsense", "no such setting"),
        ("training=5", "training", "found 5"),
        ("training.trainable_layers=most", "training.trainable_layers", "'auto' or 'all'"),
        ("loss.name=fokal", "loss.name", "'focal'"),
        ("loss.options.kappa=0.1", "loss", "loss option 'kappa' does not exist"),
        ("split.train=0.9", "split", "must be 1, found 1.3"),
        ("name=Tickets 2026", "name", "'Tickets 2026' is not a name"),
        ("groups.quantiles=[0.5]", "groups.quantiles", "found [0.5]"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_key(override, key, why):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])

    assert str(caught.value).startswith(f"command line: {key}: ")
    assert why in str(caught.value)


def test_every_wrong_setting_is_named_at_once():
    with pytest.raises(ConfigError, match=r"training\.epochs: .*; gate\.draws: "):
        load_config(None, ["training.epochs=0", "gate.draws=1"])


@pytest.mark.parametrize("override", ["training.epochs", "=3", "loss.options={a: 1"])
def test_an_override_that_is_none_says_how_one_looks(override):
    with pytest.raises(ConfigError, match=f"--set {re.escape(override)}: "):
        load_config(None, [override])


def test_a_value_is_not_made_a_section():
    with pytest.raises(ConfigError, match=r"name\.first: name is a value \('desk'\)"):
        load_config(None, ["name=desk", "name.first=desk"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- a\n- b\n", "expected keys and values, found a list"),
        ("training: [1\n", "not YAML"),
        ("just words\n", "found a str"),
        ("training: {epochs: many}\n", "training.epochs: "),
    ],
)
def test_a_wrong_profile_is_refused_by_its_file(profile, text, why):
    file = profile(text)

    with pytest.raises(ConfigError) as caught:
        load_config(file)

    assert str(caught.value).startswith(f"{file}: ")
    assert why in str(caught.value)


def test_a_profile_that_is_not_there_or_not_text_is_refused(tmp_path):
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigError, match="No such file"):
        load_config(str(tmp_path / "absent.yaml"))
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(str(binary))
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(str(tmp_path))


def test_an_empty_profile_changes_nothing(profile):
    assert load_config(profile("# nothing yet\n")) == RetrainConfig()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("tickets.csv", "tickets"),
        ("exports/Tickets 2026-11-22.csv", "tickets"),
        ("tickets_2026-W48.jsonl", "tickets"),
        ("tickets-20261122.parquet", "tickets"),
        ("tickets_2026.csv", "tickets"),
        ("s3://bucket/week/Desk Mail (DE).jsonl", "desk-mail-de"),
        ("2026-11-22.csv", "model"),
        ("…….csv", "model"),
        (f"{'x' * 80}.csv", "x" * 63),
        ("reuters21578.jsonl", "reuters21578"),
    ],
)
def test_a_model_is_named_after_the_export_without_its_date(path, name):
    assert name_of(path) == name
    assert RetrainConfig(name=name, data={"path": path}).model_name == name
    assert RetrainConfig(data={"path": path}).model_name == name


@pytest.mark.parametrize("taken", ["cache", "mlartifacts"])
def test_a_model_cannot_take_a_directory_of_the_store(taken):
    with pytest.raises(ConfigError, match="choose another name"):
        load_config(None, [f"name={taken}"])
    with pytest.raises(ConfigError, match="choose another name"):
        load_config(None, [f"name={taken}"], model=PredictConfig)
    with pytest.raises(ConfigError, match="--name"):
        _ = RetrainConfig(data={"path": f"{taken}.csv"}).model_name


def test_without_name_and_data_nobody_knows_which_model():
    with pytest.raises(ConfigError, match="--name NAME"):
        _ = RetrainConfig().model_name


def test_the_store_is_the_one_named_else_of_the_environment_else_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LONGTAIL_STORE", raising=False)
    assert RetrainConfig().store_directory == tmp_path / "longtail-store"

    monkeypatch.setenv("LONGTAIL_STORE", str(tmp_path / "shared"))
    assert store_directory(None) == tmp_path / "shared"
    assert PredictConfig(store="mine").store_directory == tmp_path / "mine"


@pytest.mark.parametrize("file", PROFILES, ids=lambda path: path.stem)
def test_every_profile_that_is_shipped_can_be_loaded(file):
    assert load_config(str(file)) != RetrainConfig()


def test_there_are_profiles_for_both_kinds_of_machine_and_for_the_smoke_run():
    assert {"cpu", "gpu", "smoke"} <= {file.stem for file in PROFILES}


def test_the_page_of_the_configuration_is_made_from_the_configuration():
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")

    assert page == reference.page(), "python -m flows.reference > docs/reference/configuration.md"


def test_every_setting_has_a_row_of_four_cells():
    rows = [line for line in reference.page().splitlines() if line.startswith("| `")]
    keys = [line.split("`")[1] for line in rows]

    deployment = {
        key if key.startswith("watch.") else f"deployment.{key}"
        for key in _leaves(DeploymentSettings)
    }
    assert set(keys) == set(_leaves(RetrainConfig)) | deployment
    assert len(keys) == len(set(keys))
    assert all(len(re.split(r"(?<!\\)\|", row)) == 6 for row in rows)


def _leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            keys += _leaves(nested, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def test_auto_stands_for_a_shortlist_with_db_in_it():
    def losses(*overrides):
        config = load_config(None, ["loss.name=auto", *overrides])
        return [loss.name for loss in config.loss.candidates]

    assert "db" in losses()
    assert losses("loss.shortlist=[asl, zlpr]") == ["db", "asl", "zlpr"]
    assert losses("loss.shortlist=[asl, db, asl]") == ["asl", "db"]
    assert [loss.name for loss in load_config(None, ["loss.name=la"]).loss.candidates] == ["la"]


def test_repeats_are_merged_unless_the_data_brings_its_split_or_somebody_says_otherwise():
    def merges(*overrides):
        return load_config(None, overrides).data.merges_duplicates

    own = "data.columns.split=part"
    assert [merges(), merges("data.merge_duplicates=false")] == [True, False]
    assert [merges(own), merges(own, "data.merge_duplicates=true")] == [False, True]


def test_auto_takes_no_options():
    with pytest.raises(ConfigError, match="name the preset"):
        load_config(None, ["loss.name=auto", "loss.options.focal_gamma=1"])


def test_a_comparison_names_its_losses():
    overrides = ["data.desk.path=desk.csv", "losses=[bce, auto]"]
    with pytest.raises(ConfigError, match="auto chooses among losses"):
        load_config(None, overrides, model=CompareConfig)
