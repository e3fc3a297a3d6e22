"""A tiny BERT with a vocabulary of its own, for the smoke flow and the tests: no download.

It knows nothing of any language, so train all of its layers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from longtail.encoder import quiet_transformers

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MAX_POSITIONS = 256
_MEAN_GAIN = 4.0  # the mean of a dozen random vectors is that much shorter than one of them


def write_tiny_encoder(
    directory: str | Path,
    texts: Iterable[str],
    *,
    seed: int = 0,
    layers: int = 2,
    hidden_size: int = 64,
    vocabulary: int = 2000,
) -> Path:
    """Write a randomly initialised BERT encoder that :func:`longtail.encoder.load_encoder` loads.

    Args:
        directory: where to; created.
        texts: what the word-piece vocabulary is made of: the most frequent words, and every
            character, so that no word is unknown.
        seed: of the weights; the same seed and texts give the same files.
        layers: transformer layers.
        hidden_size: a multiple of 16.
        vocabulary: word pieces at most, not counting single characters.

    Returns:
        The directory.
    """
    target = Path(directory)
    pieces = _pieces(texts, vocabulary)
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(pieces),
            hidden_size=hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=hidden_size // 16,
            intermediate_size=2 * hidden_size,
            max_position_embeddings=_MAX_POSITIONS,
        )
        model = BertModel(config)
        _carry_words_to_the_first_token(model)
        model.save_pretrained(target)
        _tokenizer(pieces).save_pretrained(target)
    return target


@torch.no_grad()
def _carry_words_to_the_first_token(model: BertModel) -> None:
    """Let each layer add the mean of all tokens to every token, the first one included.

    A few hundred texts cannot teach attention from scratch. Beginning with a random projection of
    the bag of words, a tiny model learns from them what a pretrained one would.
    """
    hidden_size = model.config.hidden_size
    torch.nn.init.normal_(model.embeddings.word_embeddings.weight, std=1.0)
    for layer in model.encoder.layer:
        torch.nn.init.eye_(layer.attention.self.value.weight)
        torch.nn.init.eye_(layer.attention.output.dense.weight).mul_(_MEAN_GAIN)
    torch.nn.init.normal_(model.pooler.dense.weight, std=hidden_size**-0.5)


def _pieces(texts: Iterable[str], vocabulary: int) -> list[str]:
    words = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower()))
    characters = sorted({character for word in words for character in word})
    ranked = sorted(words, key=lambda word: (-words[word], word))[:vocabulary]
    pieces = [*_SPECIAL, *characters, *(f"##{character}" for character in characters), *ranked]
    return list(dict.fromkeys(pieces))


def _tokenizer(pieces: list[str]) -> PreTrainedTokenizerFast:
    ids = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(WordPiece(ids, unk_token="[UNK]"))  # noqa: S106 - a token of text
    backend.normalizer = BertNormalizer(lowercase=True)
    backend.pre_tokenizer = BertPreTokenizer()
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=_MAX_POSITIONS,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name[1:-1].lower()}_token": name for name in _SPECIAL},
    )
