"""One pass of one or several encoders over texts: logits, and vectors to compare texts by.

Encoders that were trained from the same frozen layers share them: the frozen layers run once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from longtail.activations import ActivationCache, cache_key
from longtail.batching import Source, tokenise
from longtail.freezing import hidden, split, twin, weights_digest
from longtail.scoring import Progress, outputs
from longtail.segments import Dtype

Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Reading:
    """What the encoders say of n texts.

    Attributes:
        texts: the texts.
        logits: per encoder, float32 (n, L).
        vectors: per encoder, float32 (n, width), unit length: what its output layer reads. Texts
            that it gives the same labels lie close to each other.
        meaning: float32 (n, width), unit length: the mean over the tokens of the frozen layers'
            states, which no training has touched; None where nothing is frozen.
    """

    texts: Sequence[str]
    logits: Mapping[str, Vectors]
    vectors: Mapping[str, Vectors]
    meaning: Vectors | None


class EncoderReader:
    """Reads texts with encoders that begin alike.

    Args:
        models: transformers sequence classifiers over the same labels, by name.
        tokenizer: of all of them.
        max_length: tokens per text; longer texts are cut.
        frozen_layers: layers that training left alone in each of them; negative: none.

    Example:
        >>> reader = EncoderReader({"encoder": model}, tokenizer, max_length=128)  # doctest: +SKIP
        >>> reader.read(["a text"]).logits["encoder"].shape  # doctest: +SKIP
        (1, 90)
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        tokenizer: Any,
        *,
        max_length: int,
        frozen_layers: int = -1,
    ) -> None:
        self.models = dict(models)
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.frozen_layers = frozen_layers
        parts = [split(model, frozen_layers) for model in self.models.values()]
        shared = [part for part in parts if part is not None]
        alike = len({weights_digest(part.lower) for part in shared}) == 1
        self._lower = shared[0].lower.eval() if len(shared) == len(parts) and alike else None
        uppers = (
            [part.upper for part in shared] if self._lower is not None else self.models.values()
        )
        self._heads = _Heads(self._lower, [headless(upper) for upper in uppers])

    @property
    def shares_layers(self) -> bool:
        """Whether all encoders begin with the same frozen layers, which run once."""
        return self._lower is not None

    def read(
        self,
        texts: Sequence[str],
        *,
        cache: ActivationCache | None = None,
        dtype: Dtype = "float32",
        progress: Progress | None = None,
    ) -> Reading:
        """Read texts, in order of length, in batches padded to their own longest text.

        Args:
            texts: n texts.
            cache: keeps the frozen layers' states for whoever reads the same texts again.
            dtype: in which they are kept; float32 gives what the whole model gives.
            progress: called with (texts done, texts).
        """
        widths = self._heads.widths
        found = [np.zeros((0, width), np.float32) for width in widths]
        if len(texts):
            tokens = tokenise(self.tokenizer, texts, self.max_length)
            source: Source = tokens
            if cache is not None and self._lower is not None:
                key = cache_key(self._lower, self.tokenizer, self.max_length)
                source = cache.get(self._lower, tokens, key=key, dtype=dtype) or tokens
            found = outputs(self._heads, source, widths, progress=progress)
        names = list(self.models)
        return Reading(
            texts,
            logits=dict(zip(names, found[len(names) :], strict=False)),
            vectors={name: unit(part) for name, part in zip(names, found, strict=False)},
            meaning=unit(found[-1]) if self._lower is not None else None,
        )


def headless(model: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """A classifier without its output layer, and that layer; the weights are shared.

    The output layer is the last linear layer that has a row for each label.

    Raises:
        ValueError: the model has none.
    """
    labels = int(model.config.num_labels)  # type: ignore[union-attr,arg-type]
    layers = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == labels
    ]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no output layer for {labels} labels")
    name, layer = layers[-1]
    return _with_child(model, name.split("."), nn.Identity()), layer


def unit(vectors: Vectors) -> Vectors:
    """Vectors (n, width) scaled to length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))
    return scaled


class _Heads(nn.Module):
    """Vectors of each encoder, logits of each, and the mean of the shared states if any."""

    def __init__(
        self, lower: nn.Module | None, heads: Sequence[tuple[nn.Module, nn.Linear]]
    ) -> None:
        super().__init__()
        self.bodies = nn.ModuleList(body for body, _ in heads)
        self.outputs = nn.ModuleList(output for _, output in heads)
        self._lower = (lower,)
        self.training = False
        self.widths = [output.in_features for _, output in heads]
        self.widths += [output.out_features for _, output in heads]
        if lower is not None:
            self.widths.append(int(lower.config.hidden_size))  # type: ignore[union-attr,arg-type]

    def forward(
        self,
        attention_mask: Tensor,
        hidden_states: Tensor | None = None,
        input_ids: Tensor | None = None,
    ) -> list[Tensor]:
        lower = self._lower[0]
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if lower is not None:
            if hidden_states is None:
                hidden_states = hidden(lower, input_ids, attention_mask)
            inputs = {"inputs_embeds": hidden_states, "attention_mask": attention_mask}
        vectors = [body(**inputs).logits for body in self.bodies]
        logits = [layer(vector) for layer, vector in zip(self.outputs, vectors, strict=True)]
        if lower is None:
            return [*vectors, *logits]
        assert hidden_states is not None
        seen = attention_mask[:, :, None].to(hidden_states.dtype)
        return [*vectors, *logits, (hidden_states * seen).sum(1) / seen.sum(1).clamp(min=1)]


def _with_child(model: nn.Module, path: Sequence[str], child: nn.Module) -> nn.Module:
    """A shallow copy of a module with another module at a path; all else is shared."""
    copied = twin(model)
    name, *rest = path
    setattr(copied, name, _with_child(getattr(model, name), rest, child) if rest else child)
    return copied
