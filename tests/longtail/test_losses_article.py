"""The article's constructor arguments, as a mapping and in a configuration."""

import dataclasses
import json
from pathlib import Path

import pytest

from flows.config import RetrainConfig, load_config
from longtail.config import LossSettings
from longtail.errors import ConfigError
from longtail.losses import PRESETS, LossSpec, build_loss, from_article_config, resolve_spec

ARTICLE = {
    "reweight_func": "rebalance",
    "focal": {"focal": True, "alpha": 0.5, "gamma": 2},
    "logit_reg": {"init_bias": 0.05, "neg_scale": 2.0},
    "map_param": {"alpha": 0.1, "beta": 10.0, "gamma": 0.405},
    "weight_norm": None,
    "partial": False,
    "loss_weight": 1.0,
    "reduction": "mean",
}


def test_the_articles_setting_is_db_with_its_own_mu():
    assert from_article_config(ARTICLE) == dataclasses.replace(PRESETS["db"], rebalance_mu=0.405)


def test_the_articles_other_names():
    spec = from_article_config(
        {
            "focal": False,
            "reweight_func": "CB",
            "CB_loss": {"CB_beta": 0.99, "CB_mode": "average_w"},
            "weight_norm": "by_batch",
            "loss_weight": 10,
        }
    )
    assert spec == LossSpec(
        reweighting="class_balanced",
        class_balance_beta=0.99,
        class_balance_mode="average_w",
        weight_norm="by_batch",
        loss_weight=10.0,
    )
    assert from_article_config({"reweight_func": "inv"}).reweighting == "inverse"
    assert from_article_config({"reweight_func": "sqrt_inv"}).reweighting == "sqrt_inverse"
    assert from_article_config({}) == PRESETS["bce"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"gamma": 2}, "'gamma' does not exist; expected one of focal, map_param"),
        ({"map_param": {"mu": 0.4}}, "'map_param.mu' does not exist; expected one of alpha"),
        ({"logit_reg": 0.05}, "logit_reg=0.05: expected a mapping with the keys init_bias"),
        ({"reweight_func": "rebalance_sqrt_inv"}, "expected None or one of inv, sqrt_inv"),
        ({"reduction": "sum"}, "reduction='sum'"),
        ({"partial": "no"}, "partial='no'"),
        ({"loss_weight": "heavy"}, "loss_weight='heavy': expected a valid number"),
    ],
)
def test_impossible_article_arguments(config, message):
    with pytest.raises(ConfigError) as error:
        from_article_config(config)
    assert message in str(error.value)


def test_a_pasted_configuration_is_the_loss_that_it_describes(tmp_path):
    file = tmp_path / "article.yaml"
    file.write_text(f"loss: {{article: {json.dumps(ARTICLE)}}}", encoding="utf-8")
    config = load_config(str(file))
    assert config.loss == LossSettings(article=ARTICLE)
    assert config.loss.name == "article"
    assert resolve_spec(config.loss) == dataclasses.replace(PRESETS["db"], rebalance_mu=0.405)
    assert build_loss(config.loss, support=[3, 1], n_texts=9).mu.item() == pytest.approx(0.405)
    assert RetrainConfig.model_validate_json(config.model_dump_json()) == config


def test_the_reference_shows_a_configuration_that_can_be_pasted(tmp_path):
    page = Path(__file__).parents[2] / "docs/reference/losses.md"
    section = page.read_text(encoding="utf-8").split("## A configuration of the article")[1]
    file = tmp_path / "pasted.yaml"
    file.write_text(section.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    expected = dataclasses.replace(PRESETS["db"], rebalance_mu=0.405)
    assert resolve_spec(load_config(str(file)).loss) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.article.focal=true", "loss.name=db"], "loss.name=db and loss.article describe two"),
        (
            ["loss.article.focal=true", "loss.options.focal_gamma=1"],
            "loss.options (focal_gamma) change a preset; beside loss.article put",
        ),
        (["loss.name=article"], "loss.name is article, but loss.article is empty"),
        (["loss.article.gamma=2"], "loss argument 'gamma' does not exist"),
        (["loss.article.focal=[1]"], "focal=[1]: expected a mapping with the keys focal, alpha"),
        (["loss.article=db"], "loss.article: Input should be a valid dictionary, found 'db'"),
    ],
)
def test_configurations_that_describe_no_loss(overrides, message):
    with pytest.raises(ConfigError) as error:
        load_config(None, overrides)
    assert message in str(error.value)


def test_an_empty_mapping_is_the_articles_own_default():
    assert resolve_spec(LossSettings(article={})) == PRESETS["bce"]
