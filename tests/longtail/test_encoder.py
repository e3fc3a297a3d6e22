"""Loading an encoder: where from, what is refused, and what an error says."""

import hashlib
import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny_case import encoder_directory, texts_and_labels, tiny_encoder

from longtail.config import EncoderSettings
from longtail.encoder import build_classifier, load_encoder
from longtail.errors import ConfigError
from longtail.tiny import write_tiny_encoder


def copy(tmp_path):
    return shutil.copytree(encoder_directory(), tmp_path / "encoder")


def load(path, **changes):
    return load_encoder(EncoderSettings(source=str(path), **changes))


def test_a_directory_is_loaded():
    encoder = tiny_encoder()
    assert encoder.family == "bert"
    assert encoder.tokenizer("the printer")["input_ids"][0] == encoder.tokenizer.cls_token_id
    assert load(encoder_directory()).fingerprint == encoder.fingerprint


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_the_fingerprint_covers_weights_tokenizer_and_configuration(tmp_path, file):
    path = copy(tmp_path)
    if file == "model.safetensors":
        write_tiny_encoder(path, texts_and_labels(200, 9)[0], seed=1, layers=3, hidden_size=32)
    elif file == "config.json":
        config = json.loads((path / file).read_text())
        (path / file).write_text(json.dumps({**config, "layer_norm_eps": 1e-5}))
    else:
        (path / file).write_text((path / file).read_text().replace("printer", "plotter"))
    assert load(path).fingerprint != tiny_encoder().fingerprint


def test_a_package_is_found_without_being_imported(tmp_path, monkeypatch):
    package = tmp_path / "model_of_a_package"
    shutil.copytree(encoder_directory(), package / "deep" / "model")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert load("package:model_of_a_package").fingerprint == tiny_encoder().fingerprint
    assert "model_of_a_package" not in sys.modules


def test_a_wrong_checksum_is_named(tmp_path):
    weights = encoder_directory() / "model.safetensors"
    right = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert load(encoder_directory(), sha256=right).path == encoder_directory()
    with pytest.raises(ConfigError, match=f"{right}, expected {'0' * 64}"):
        load(encoder_directory(), sha256="0" * 64)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/nowhere/at/all", "no such directory"),
        ("package:not_an_installed_package", "is not installed"),
        ("package:json", "no directory with config.json"),
        ("package:../etc", "is not installed"),
        ("hub:nobody/nothing", "could not be fetched"),
    ],
)
def test_a_source_that_is_not_there(source, message):
    with pytest.raises(ConfigError, match=message):
        load(source)


def test_a_directory_without_configuration(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        load(tmp_path)


def test_pickled_weights_are_refused(tmp_path):
    path = copy(tmp_path)
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"found pytorch_model\.bin.*refused"):
        load(path)


def test_code_of_the_models_own_is_not_run(tmp_path):
    path = copy(tmp_path)
    config = json.loads((path / "config.json").read_text())
    config.update(model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})
    (path / "config.json").write_text(json.dumps(config))
    (path / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ConfigError, match="without code of the model's own"):
        load(path)


def test_a_tokenizer_without_padding(tmp_path):
    path = copy(tmp_path)
    config = json.loads((path / "tokenizer_config.json").read_text())
    config.pop("pad_token")
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    (path / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="no padding token"):
        load(path)


def test_the_head_is_seeded_and_the_callers_random_state_kept():
    labels = ["a", "b", "c"]
    torch.manual_seed(3)
    first = build_classifier(tiny_encoder(), labels, seed=5)
    after = torch.rand(1)
    second = build_classifier(tiny_encoder(), labels, seed=5)
    other = build_classifier(tiny_encoder(), labels, seed=6)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(first.classifier.weight, second.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert first.config.id2label == dict(enumerate(labels))
    assert first.config.problem_type == "multi_label_classification"
    assert not first.training


def test_a_classifier_needs_a_label():
    with pytest.raises(ConfigError, match="at least one label"):
        build_classifier(tiny_encoder(), [], seed=0)


def test_the_tiny_encoder_is_the_same_every_time_and_knows_every_word(tmp_path):
    texts = texts_and_labels(200, 9)[0]
    again = write_tiny_encoder(tmp_path / "b", texts, layers=3, hidden_size=32)
    weights, expected = (load_file(path / "model.safetensors")
                         for path in (again, encoder_directory()))  # fmt: skip
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert (again / "tokenizer.json").read_text() == (
        encoder_directory() / "tokenizer.json"
    ).read_text()
    unknown = tiny_encoder().tokenizer.unk_token_id
    assert unknown not in tiny_encoder().tokenizer("printers keyboardist")["input_ids"]
