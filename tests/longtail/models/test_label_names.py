"""What a label's own name says, by meaning and by words."""

import numpy as np
import pytest
from evidence_case import annotated, classifier, reading
from tiny_case import SPACE, tiny_encoder

from longtail import storage
from longtail.errors import StoreError
from longtail.models.evidence import Annotated, MissingEvidenceError
from longtail.models.label_names import LabelNames, NameWords, in_words
from longtail.models.reading import EncoderReader, Reading

NAMES = ("printer", "network", "password reset", "screen")
TEXTS = ["my printer is broken", "the screen and the printer", "reset my password", "", "hello"]


def reader(frozen=2):
    return EncoderReader({"encoder": classifier(1)}, tiny_encoder().tokenizer, max_length=24,
                         frozen_layers=frozen)  # fmt: skip


def words_of(names=NAMES, texts=TEXTS):
    memory = annotated(len(texts))
    memory = Annotated(Reading(texts, {}, {}, None), memory.y, memory.ids, memory.units)
    return NameWords(names).fit(memory)


def said(source, texts=TEXTS):
    return source.score(Reading(texts, {}, {}, None))


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("printer", "printer"),
        ("implemented-in::rubyOnRails", "implemented in ruby On Rails"),
        ("USB_port/3.0", "USB port 3 0"),
        ("Rückgabe & Umtausch", "Rückgabe Umtausch"),
        ("возврат_товара", "возврат товара"),
        ("退款::请求", "退款 请求"),
        ("हिन्दी-भाषा", "हिन्दी भाषा"),
        ("cafe\u0301-menu", "cafe\u0301 menu"),
        ("C++", "C"),
        ("::", ""),
        ("", ""),
    ],
)
def test_a_label_in_words(label, words):
    assert in_words(label) == words


def test_descriptions_and_aliases_follow_the_name():
    assert in_words("rma", "return", "Goods sent back.") == "rma. return. Goods sent back."
    assert in_words("::", "return", "") == "return"


# ── by meaning ───────────────────────────────────────────────────────────────────────────────


def test_by_meaning_it_is_the_cosine_of_text_and_name():
    read = reader().read
    made = LabelNames(NAMES, read).fit(annotated(2))
    found = made.score(read(TEXTS))
    assert found.shape == (len(TEXTS), len(NAMES))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, read(TEXTS).meaning @ read(NAMES).meaning.T, atol=2e-3)
    assert made.score(read(NAMES)).argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_a_label_without_words_is_as_close_as_labels_are_in_the_mean():
    read = reader().read
    found = LabelNames((*NAMES, ""), read).fit(annotated(2)).score(read(TEXTS))
    np.testing.assert_allclose(found[:, 4], found[:, :4].mean(axis=1), atol=2e-3)


@pytest.mark.parametrize(
    ("names", "frozen", "why"),
    [
        (("", ""), 2, "no label has a word in its name"),
        ((), 2, "no label has a word in its name"),
        (NAMES, -1, "the encoder has no frozen layers"),
    ],
)
def test_without_names_or_meaning_it_is_left_out(names, frozen, why):
    with pytest.raises(MissingEvidenceError, match=why):
        LabelNames(names, reader(frozen).read).fit(annotated(2))


def test_a_reading_without_meaning_is_an_error():
    made = LabelNames(NAMES, reader().read).fit(annotated(2))
    with pytest.raises(ValueError, match="no meaning to compare"):
        made.score(Reading(["x"], {}, {}, None))


def test_names_come_back_as_they_were(tmp_path):
    read = reader().read(TEXTS)
    made = LabelNames(SPACE.names, reader().read).fit(annotated(2))
    made.save(tmp_path)
    loaded = LabelNames.load(tmp_path)
    assert loaded.names == SPACE.names
    assert loaded.score(read).tobytes() == made.score(read).tobytes()
    assert loaded.score(reading([], width=32)).shape == (0, len(SPACE))


# ── by words ─────────────────────────────────────────────────────────────────────────────────


def test_by_words_a_text_speaks_for_the_labels_whose_words_it_has():
    found = said(words_of())
    assert found.shape == (len(TEXTS), len(NAMES))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found > 0, np.array([
        [1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0],
    ], dtype=bool))  # fmt: skip


def test_it_is_the_documented_sum():
    """idf = ln((1 + texts) / (1 + texts with the word)) + 1, over five texts."""
    idf = np.log(6 / 2) + 1
    name = np.sqrt(2) * idf
    found = said(words_of(), ["reset reset the password"])[0, 2]
    expected = (idf**2 * (1 + np.log(2)) + idf**2) / name / np.sqrt(1 + 4)
    assert found == pytest.approx(expected, rel=1e-6)


def test_rare_words_count_more_and_long_texts_less():
    texts = ["printer"] * 8 + ["network"]
    common, rare = said(words_of(("printer", "network"), texts), ["printer", "network"]).diagonal()
    assert rare > common
    short, long = said(words_of(), ["printer", "printer " + "word " * 50])[:, 0]
    assert short > 3 * long > 0


def test_other_scripts_and_cases_are_words_too():
    names = ("возврат товара", "Umtausch")
    found = said(words_of(names), ["Хочу ВОЗВРАТ", "einen umtausch bitte"])
    np.testing.assert_array_equal(found > 0, np.eye(2, dtype=bool))


def test_labels_without_words_are_never_spoken_for():
    found = said(words_of(("printer", "", "  ")))
    assert found[:, 0].max() > 0
    assert (found[:, 1:] == 0).all()
    for names in ((), ("", "")):
        with pytest.raises(MissingEvidenceError, match="no label has a word in its name"):
            words_of(names)


def test_words_come_back_as_they_were(tmp_path):
    made = words_of()
    made.save(tmp_path)
    loaded = NameWords.load(tmp_path)
    assert said(loaded).tobytes() == said(made).tobytes()
    assert said(loaded, []).shape == (0, len(NAMES))


@pytest.mark.parametrize("file", ["names.parquet", "name_words.parquet"])
def test_a_damaged_file_is_refused(file, tmp_path):
    source = words_of() if "words" in file else LabelNames(NAMES, reader().read).fit(annotated(2))
    source.save(tmp_path)
    path = tmp_path / file
    table = storage.read_parquet(path)
    storage.write_parquet(path, table.drop_columns(table.column_names[-1:]))
    with pytest.raises(StoreError, match="has the columns"):
        type(source).load(tmp_path)
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        type(source).load(tmp_path)


@pytest.mark.parametrize("labels", [b"1", b"x"])
def test_words_of_labels_that_are_not_there_are_refused(labels, tmp_path):
    words_of().save(tmp_path)
    path = tmp_path / "name_words.parquet"
    table = storage.read_parquet(path).replace_schema_metadata({b"labels": labels})
    storage.write_parquet(path, table)
    with pytest.raises(StoreError, match="not the words of label names"):
        NameWords.load(tmp_path)
