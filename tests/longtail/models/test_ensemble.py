"""A bundle of all evidence: whole, of one piece, and served by Longtail alone."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from evidence_case import classifier
from test_bundle import IDS, LONG, info
from tiny_case import SPACE, labelled, tiny_encoder

from longtail import storage
from longtail.activations import ActivationCache
from longtail.baselines import LinearBaseline
from longtail.bundle import finalise_bundle, load_bundle, read_info, write_bundle
from longtail.config import SOURCE_NAMES, CombinationSettings, LinearSettings
from longtail.errors import StoreError
from longtail.models.combination import cooccurrence, cross_fit
from longtail.models.ensemble import SOURCES, Ensemble, fit_sources
from longtail.models.evidence import (
    Annotated,
    BaselineLogits,
    EncoderLogits,
    LinearDecisions,
)
from longtail.models.label_names import LabelNames, NameWords
from longtail.models.neighbours import Neighbours
from longtail.models.reading import EncoderReader
from longtail.predictions import Predictions, write_predictions
from longtail.scoring import score, score_bundle
from longtail.serve_check import (
    BY_LONGTAIL,
    main,
    pipeline_probabilities,
    run_serve_check,
)

TOKENIZER = tiny_encoder().tokenizer
TRAIN, VALIDATION = labelled(120, 1), labelled(80, 2)
TEXTS = [*labelled(20, 5).texts, LONG, "", "x", "invoice printer invoice"]
SETTINGS = CombinationSettings(folds=2, min_texts=10)


def texts_of(part, reader):
    count = len(part.texts)
    return Annotated(reader.read(part.texts), part.y, [f"{row}" for row in range(count)],
                     np.arange(count))  # fmt: skip


def ensemble_of(names=SOURCE_NAMES, *, models=None, frozen=2, method="auto", seed=1):
    """Everything that a retrain combines, on a tiny encoder, in a second."""
    models = models or {"encoder": classifier(seed), "bce": classifier(seed + 1)}
    reader = EncoderReader(models, TOKENIZER, max_length=24, frozen_layers=frozen)
    memory, held_out = texts_of(TRAIN, reader), texts_of(VALIDATION, reader)
    linear = LinearBaseline(LinearSettings(), seed=seed)
    made = [EncoderLogits(), BaselineLogits(), LinearDecisions(linear), Neighbours(10),
            LabelNames(SPACE.names, reader.read), NameWords(SPACE.names)]  # fmt: skip
    fitted, notes = fit_sources([one for one in made if one.name in names], memory)
    evidence = {name: one.score(held_out.reading) for name, one in fitted.items()}
    support = np.asarray(TRAIN.y.sum(axis=0)).ravel()
    crossed = cross_fit(evidence, VALIDATION.y, None, held_out.units, support,
                        cooccurrence(TRAIN.y), SETTINGS, method=method)  # fmt: skip
    return Ensemble(reader, fitted, crossed.combination), notes


def write(directory, ensemble, frozen=2):
    sources = ensemble.combination.sources
    return write_bundle(
        directory, ensemble.reader.models["encoder"], TOKENIZER,
        info(sources=sources, frozen_layers=frozen), IDS, ensemble=ensemble,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["auto", "weighted sum"])
def method(request):
    return request.param


@pytest.fixture(scope="module")
def ensemble(method):
    """Learned, or added up: with a source that no fold prefers alone."""
    with pytest.MonkeyPatch.context() as patch:
        if method == "auto":  # whatever validation says of a handful of texts
            patch.setattr("longtail.models.combination._log_loss", Losses())
        patch.setattr("longtail.models.combination.best_global_threshold", Even())
        found, _ = ensemble_of(method=method)
    assert found.combination.sources == SOURCE_NAMES
    assert found.combination.method == ("learned" if method == "auto" else method)
    return found


class Losses:
    """The sum's loss is asked for first, and is higher."""

    def __init__(self):
        self.left = [2.0, 1.0]

    def __call__(self, *_):
        return self.left.pop(0)


class Even:
    """Nobody is better than another."""

    def __call__(self, *_):
        return 0.5, 0.5


@pytest.fixture(scope="module")
def expected(ensemble):
    return ensemble.probabilities(TEXTS)


@pytest.fixture(scope="module")
def written(ensemble, tmp_path_factory):
    return write(tmp_path_factory.mktemp("written") / "bundle", ensemble)


@pytest.fixture
def bundle(written, tmp_path):
    return shutil.copytree(written, tmp_path / "bundle")


def mend(bundle):
    """The manifest, by somebody who knows about it."""
    storage.write_manifest(bundle, {"format": 2})


# ── round trip ───────────────────────────────────────────────────────────────────────────────


def test_it_serves_what_was_combined(written, ensemble, expected):
    loaded = load_bundle(written)
    assert tuple(loaded.ensemble.sources) == SOURCE_NAMES == tuple(SOURCES)
    found = score_bundle(loaded, TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(score_bundle(written, TEXTS), expected)
    assert score_bundle(loaded, []).shape == (0, len(SPACE))
    assert loaded.ensemble.reader.shares_layers
    for name, source in ensemble.sources.items():
        one, other = (which.score(ensemble.reader.read(TEXTS))
                      for which in (source, loaded.ensemble.sources[name]))  # fmt: skip
        np.testing.assert_array_equal(one, other, err_msg=name)


def test_every_source_is_in_a_place_of_its_own(written, method):
    files = {path.relative_to(written / "evidence").as_posix()
             for path in (written / "evidence").rglob("*") if path.is_file()}  # fmt: skip
    assert files == {
        "bce.safetensors", "parts.json", "combination/combination.json", "linear/linear.json",
        "linear/manifest.json", "linear/terms.parquet", "names/names.parquet",
        "name_words/name_words.parquet", "neighbours/memory.parquet",
        *(["combination/trees.parquet", "combination/cooccurrence.parquet"] * (method == "auto")),
    }  # fmt: skip


def test_the_second_encoder_is_kept_where_it_differs_only(written):
    kept = safetensors.torch.load_file(written / "evidence" / "bce.safetensors")
    assert any("layer.2." in name for name in kept)
    assert not any("embeddings" in name or "layer.0." in name for name in kept)


def test_the_cache_of_frozen_layers_gives_the_same(written, expected, tmp_path):
    cache, loaded = ActivationCache(tmp_path), load_bundle(written)
    for _ in range(2):
        found = score_bundle(loaded, TEXTS, cache=cache)
        assert (np.abs(found - expected) > 1e-4).mean() <= 0.01


def test_plain_transformers_gives_the_encoder_alone(written, ensemble, expected):
    alone = pipeline_probabilities(written, TEXTS, SPACE.names)
    by_encoder = score(ensemble.reader.models["encoder"], TOKENIZER, TEXTS, max_length=24)
    np.testing.assert_allclose(alone, by_encoder, atol=1e-6)
    assert np.abs(alone - expected).max() > 0.1


def test_the_card_says_what_must_serve_it(written):
    card = (written / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: longtail")
    assert "must be served by Longtail" in card
    assert ", ".join(SOURCE_NAMES) in card
    assert "score_bundle(bundle" in card
    assert "pipeline(" not in card


def test_thresholds_and_metrics_come_in_later(bundle, expected):
    finalise_bundle(bundle, thresholds=np.full(6, 0.25), metrics={"micro_f1": 0.5})
    assert read_info(bundle).sources == SOURCE_NAMES
    np.testing.assert_array_equal(score_bundle(bundle, TEXTS), expected)


def test_where_nothing_is_frozen_both_encoders_are_whole(tmp_path):
    first, second = classifier(1), classifier(2)
    torch.nn.init.normal_(second.bert.encoder.layer[0].output.dense.weight)
    made, notes = ensemble_of(models={"encoder": first, "bce": second}, frozen=-1)
    (note,) = notes
    assert note.startswith("The source names is left out: the encoder has no frozen layers")
    assert "names" not in made.sources
    path = write(tmp_path / "bundle", made, frozen=-1)
    np.testing.assert_array_equal(score_bundle(path, TEXTS), made.probabilities(TEXTS))


@pytest.mark.parametrize("names", [("encoder", "linear"), ("encoder", "bce", "names")])
def test_sources_that_are_switched_off_are_not_in_it(names, tmp_path, monkeypatch):
    monkeypatch.setattr("longtail.models.combination.best_global_threshold", Even())
    made, _ = ensemble_of(names)
    path = write(tmp_path / "bundle", made)
    assert read_info(path).sources == names
    assert (path / "evidence" / "bce.safetensors").exists() == ("bce" in names)
    assert not (path / "evidence" / "neighbours").exists()
    np.testing.assert_array_equal(score_bundle(path, TEXTS), made.probabilities(TEXTS))


def test_the_encoder_alone_is_a_plain_bundle(tmp_path):
    model = classifier(1)
    path = write_bundle(tmp_path / "bundle", model, TOKENIZER, info(), IDS)
    assert not read_info(path).combined
    assert not (path / "evidence").exists()
    assert load_bundle(path).ensemble is None
    alone = pipeline_probabilities(path, TEXTS, SPACE.names)
    np.testing.assert_allclose(score_bundle(path, TEXTS), alone, atol=1e-6)
    assert "pipeline(" in (path / "README.md").read_text()


def test_sources_and_ensemble_go_together(tmp_path, ensemble):
    model = classifier(1)
    for sources, given in ((("encoder",), ensemble), (SOURCE_NAMES, None)):
        with pytest.raises(ValueError, match="go together"):
            write_bundle(tmp_path / "bundle", model, TOKENIZER, info(sources=sources), IDS,
                         ensemble=given)  # fmt: skip
    assert not list(tmp_path.iterdir())


# ── tampering ────────────────────────────────────────────────────────────────────────────────

PARTS = ("linear/terms.parquet", "neighbours/memory.parquet", "names/names.parquet",
         "combination/combination.json", "bce.safetensors")  # fmt: skip


@pytest.fixture(scope="module")
def other(tmp_path_factory, method):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("longtail.models.combination.best_global_threshold", Even())
        found, _ = ensemble_of(seed=5, method="weighted sum")
    return write(tmp_path_factory.mktemp("other") / "bundle", found)


@pytest.mark.parametrize("part", PARTS)
def test_a_changed_or_lost_part_is_found(bundle, part):
    path = bundle / "evidence" / part
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StoreError, match="content differs"):
        load_bundle(bundle)
    path.unlink()
    with pytest.raises(StoreError, match=r"listed in manifest\.json but missing"):
        load_bundle(bundle)
    mend(bundle)
    with pytest.raises(StoreError, match=f"do not belong together: evidence/{part}"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "part", [*(f"evidence/{part}" for part in PARTS), "model.safetensors", "tokenizer.json"]
)
def test_a_part_of_another_bundle_is_refused_though_the_manifest_lists_it(bundle, other, part):
    content = (other / part).read_bytes()
    # The tokenizer and the meaning of names are the same in both.
    same = content == (bundle / part).read_bytes()
    (bundle / part).write_bytes(content + b"\n" * same)
    mend(bundle)
    with pytest.raises(StoreError, match=f"do not belong together: {part}"):
        load_bundle(bundle)


def test_all_evidence_of_another_bundle_is_refused(bundle, other):
    shutil.rmtree(bundle / "evidence")
    shutil.copytree(other / "evidence", bundle / "evidence")
    mend(bundle)
    with pytest.raises(StoreError, match=r"do not belong together: model\.safetensors"):
        load_bundle(bundle)


def test_a_part_too_many_is_refused(bundle):
    (bundle / "evidence" / "more.parquet").write_bytes(b"x")
    mend(bundle)
    with pytest.raises(StoreError, match="do not belong together: evidence/more"):
        load_bundle(bundle)


def test_without_the_list_of_parts_it_is_refused(bundle):
    (bundle / "evidence" / "parts.json").unlink()
    mend(bundle)
    with pytest.raises(StoreError, match="nobody knows which parts belong together"):
        load_bundle(bundle)


def reseal(bundle):
    """Manifest and list of parts, by somebody who knows about both."""
    parts = {name: entry["sha256"]
             for name, entry in storage.write_manifest(bundle)["files"].items()
             if name in {"model.safetensors", "config.json", "tokenizer.json",
                         "tokenizer_config.json"}
             or (name.startswith("evidence/") and not name.endswith("parts.json"))}  # fmt: skip
    storage.write_json(bundle / "evidence" / "parts.json", parts)
    mend(bundle)


def change_json(path, **changes):
    storage.write_json(path, {**storage.read_json(path), **changes})


def test_a_linear_arm_of_other_labels(bundle):
    LinearBaseline(LinearSettings()).fit(TRAIN.texts, TRAIN.y[:, :4]).save(
        bundle / "evidence" / "linear"
    )
    reseal(bundle)
    with pytest.raises(StoreError, match="speaks of 4 labels, the encoder of 6: these parts do"):
        load_bundle(bundle)


def test_a_memory_of_another_width(bundle):
    reading = EncoderReader({"encoder": classifier(1)}, TOKENIZER, max_length=24).read(["a", "b"])
    narrow = {"encoder": reading.vectors["encoder"][:, :8]}
    memory = Annotated(type(reading)(["a", "b"], {}, narrow, None), TRAIN.y[:2], ["a", "b"],
                       np.arange(2))  # fmt: skip
    Neighbours(2).fit(memory).save(bundle / "evidence" / "neighbours")
    reseal(bundle)
    with pytest.raises(StoreError, match="does not fit the encoder"):
        load_bundle(bundle)


def test_a_second_encoder_of_another_shape_or_of_weights_nobody_has(bundle):
    path = bundle / "evidence" / "bce.safetensors"
    kept = safetensors.torch.load_file(path)
    wrong = {**kept, "classifier.weight": torch.zeros(4, 32)}
    for weights in (wrong, {**kept, "more": torch.zeros(2)}):
        safetensors.torch.save_file(weights, path)
        reseal(bundle)
        with pytest.raises(StoreError, match="has weights that the encoder has not"):
            load_bundle(bundle)
    path.write_bytes(b"torn")
    reseal(bundle)
    with pytest.raises(StoreError, match="not readable as safetensors"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sources": ["encoder", "weather"], "weights": {"encoder": 1.0, "weather": 1.0},
          "trees": False}, "sources that this version does not know: weather"),
        ({"support": [1, 2, 3], "trees": False, "pairs": False}, "made for 3 labels"),
        ({"sources": ["encoder", "linear"], "weights": {"encoder": 1.0, "linear": 1.0},
          "trees": False}, "combines encoder, linear, longtail.json says"),
    ],
)  # fmt: skip
def test_a_combination_of_something_else(bundle, changes, why):
    change_json(bundle / "evidence" / "combination" / "combination.json", **changes)
    reseal(bundle)
    with pytest.raises(StoreError, match=why):
        load_bundle(bundle)


def test_a_bundle_of_the_first_format_is_refused_with_a_sentence(bundle):
    change_json(bundle / "longtail.json", format=1)
    mend(bundle)
    with pytest.raises(StoreError, match="format 1, this version of Longtail reads 2"):
        load_bundle(bundle)


# ── the check in a fresh process ─────────────────────────────────────────────────────────────


def answer(bundle, tmp_path, expected, capsys, labels=SPACE.names):
    """The check's exit status and answer; the columns in another order than the bundle's."""
    texts, wanted = tmp_path / "texts.parquet", tmp_path / "expected.parquet"
    storage.write_parquet(texts, storage.pa.table({"text": TEXTS}))
    ids = tuple(str(row) for row in range(len(TEXTS)))
    write_predictions(wanted, Predictions(ids, labels[::-1], expected[:, ::-1]))
    status = main([str(bundle), str(texts), str(wanted)])
    return status, json.loads(capsys.readouterr().out)


def test_the_check_passes_and_fails(bundle, other, expected, tmp_path, capsys):
    status, found = answer(bundle, tmp_path, expected, capsys)
    assert (status, found["passed"], found["by"]) == (0, True, BY_LONGTAIL)
    assert (found["differing"], found["n"]) == (0.0, len(TEXTS))

    status, found = answer(other, tmp_path, expected, capsys)
    assert (status, found["passed"]) == (1, False)
    assert found["detail"].startswith(f"by {BY_LONGTAIL}, ")
    assert found["differing"] > 0.05

    (bundle / "evidence" / "linear" / "terms.parquet").write_bytes(b"torn")
    status, found = answer(bundle, tmp_path, expected, capsys)
    assert status == 1
    assert "terms.parquet: content differs" in found["detail"]


def test_other_labels_fail_the_check(bundle, tmp_path, expected, capsys):
    others = (*SPACE.names[:-1], "unheard of")
    status, found = answer(bundle, tmp_path, expected, capsys, labels=others)
    assert status == 1
    assert "gives other labels than expected" in found["detail"]


@pytest.mark.parametrize(("wrong", "passes"), [(1, True), (2, False)])
def test_one_in_a_thousand_may_lie_across_a_split(written, tmp_path, wrong, passes, monkeypatch):
    """More may not, nor any of a plain bundle, nor a number that is none."""
    from longtail import serve_check

    found = np.full((200, 6), 0.5, np.float32)
    monkeypatch.setattr(serve_check, "longtail_probabilities", lambda *_: found)
    monkeypatch.setattr(serve_check, "pipeline_probabilities", lambda *_: found)
    texts, wanted = tmp_path / "texts.parquet", tmp_path / "expected.parquet"
    storage.write_parquet(texts, storage.pa.table({"text": ["x"] * 200}))

    def check(bundle, values):
        ids = tuple(str(row) for row in range(200))
        write_predictions(wanted, Predictions(ids, SPACE.names, values))
        return serve_check.check(bundle, texts, wanted, 1e-4)

    expected = found.copy()
    expected[:wrong, 0] = 0.3
    assert check(written, expected).passed is passes
    plain = write_bundle(tmp_path / "plain", classifier(1), TOKENIZER, info(), IDS)
    assert not check(plain, expected).passed
    expected[:wrong, 0] = np.nan
    assert not check(written, expected).passed


@pytest.mark.parametrize("method", ["auto"], indirect=True, scope="module")
def test_a_fresh_process_serves_it_by_longtail(written, expected):
    found = run_serve_check(written, TEXTS, expected, 1e-4)
    assert (found.passed, found.by, found.n) == (True, BY_LONGTAIL, len(TEXTS)), found.detail
