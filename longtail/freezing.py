"""Dividing a classifier into frozen layers, computed once, and trained layers on top of them.

The two parts share the classifier's own modules: training the upper part trains the classifier.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

# Families whose layers take (hidden states, mask) and whose head reads the first token alone.
SPLITTABLE = frozenset({"bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"})
_FIRST_TOKEN_ATTENTION = frozenset({"sdpa", "eager"})


@dataclass(frozen=True)
class Split:
    """A classifier in two parts.

    Attributes:
        lower: frozen embeddings and layers; token ids and mask to hidden states.
        upper: trained layers, pooler and head; hidden states and mask to logits.
        depth: number of frozen layers.
    """

    lower: nn.Module
    upper: nn.Module
    depth: int


def trainable_layers(setting: int | Literal["auto", "all"], layers: int, *, cuda: bool) -> int:
    """How many layers are trained, from the top; ``layers + 1`` means the embeddings as well.

    ``auto`` trains everything on a GPU and one layer on a CPU.
    """
    if setting == "all" or (setting == "auto" and cuda):
        return layers + 1
    return min(1 if setting == "auto" else int(setting), layers)


def encoder_layers(model: nn.Module) -> nn.ModuleList:
    """The transformer layers of a classifier, from the bottom.

    Raises:
        ValueError: the encoder has no single list of layers.
    """
    count = int(model.config.num_hidden_layers)  # type: ignore[union-attr,arg-type]
    for module in _base(model).modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ValueError(f"{type(model).__name__} has no list of {count} layers")


def freeze(model: nn.Module, depth: int) -> tuple[nn.Module, ...]:
    """Freeze the embeddings and the lowest layers of a classifier.

    Args:
        model: a sequence classifier.
        depth: frozen layers; a negative depth freezes nothing, not even the embeddings.

    Returns:
        The frozen modules; they belong in eval mode.
    """
    model.requires_grad_(requires_grad=True)
    if depth < 0:
        return ()
    base = _base(model)
    layers = encoder_layers(model)
    trained = {id(p) for layer in layers[depth:] for p in layer.parameters()}
    pooler = getattr(base, "pooler", None)
    if isinstance(pooler, nn.Module):
        trained |= {id(p) for p in pooler.parameters()}
    for parameter in base.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    outside = [child for child in base.children() if not _holds(child, layers) and child != pooler]
    return (*outside, *layers[:depth])


def split(model: nn.Module, depth: int) -> Split | None:
    """Divide a classifier after its first ``depth`` layers; None where its family is not known.

    The parts are the family's own classes over the shared modules, so masks and attention are the
    family's own. In the last layer only what the head reads, the first token, is computed: the
    same numbers at a small part of the work.
    """
    config: Any = model.config
    if config.model_type not in SPLITTABLE or depth < 0:
        return None
    layers = encoder_layers(model)
    lower = _with_layers(_base(model), list(layers[:depth]))
    if hasattr(lower, "pooler"):
        setattr(lower, "pooler", None)  # noqa: B010 - a module's attribute may be None
    upper = twin(model)
    base = _with_layers(_base(model), _upper_layers(model, list(layers[depth:])))
    base.embeddings = _Passthrough()
    if hasattr(base, "embeddings_project"):
        base.embeddings_project = nn.Identity()
    setattr(upper, str(model.base_model_prefix), base)
    return Split(lower, upper, depth)


def weights_digest(module: nn.Module) -> str:
    """SHA-256 of a module's weights and their names: the same weights, the same activations."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(array.data)
    return digest.hexdigest()


class PartlyFrozen(nn.Module):
    """What the Trainer trains: the upper part of a split, fed from the cache or by the lower part.

    The lower part is not a submodule: it stays in eval mode and out of the checkpoints.
    """

    def __init__(self, parts: Split) -> None:
        super().__init__()
        self.upper = parts.upper
        self._lower = (parts.lower.eval(),)
        self.training = parts.upper.training

    def forward(
        self,
        attention_mask: Tensor,
        hidden_states: Tensor | None = None,
        input_ids: Tensor | None = None,
    ) -> Tensor:
        """Logits (texts, labels) of cached hidden states, or of token ids."""
        if hidden_states is None:
            with torch.no_grad():
                hidden_states = hidden(self._lower[0], input_ids, attention_mask)
        output = self.upper(inputs_embeds=hidden_states, attention_mask=attention_mask)
        logits: Tensor = output.logits
        return logits

    def to_device(self, device: torch.device) -> None:
        """Move both parts."""
        self.to(device)
        self._lower[0].to(device)


class Whole(nn.Module):
    """A classifier whose frozen modules stay in eval mode whatever the Trainer says."""

    def __init__(self, model: nn.Module, frozen: tuple[nn.Module, ...]) -> None:
        super().__init__()
        self.model = model
        self._frozen = frozen
        self.training = model.training

    def train(self, mode: bool = True) -> Whole:
        """Set the mode of what is trained."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, attention_mask: Tensor, input_ids: Tensor) -> Tensor:
        """Logits (texts, labels) of token ids."""
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits

    def to_device(self, device: torch.device) -> None:
        """Move the classifier."""
        self.to(device)


def hidden(lower: nn.Module, input_ids: Tensor | None, attention_mask: Tensor) -> Tensor:
    """Hidden states (texts, tokens, width) after the frozen layers."""
    output = lower(input_ids=input_ids, attention_mask=attention_mask)
    states: Tensor = output.last_hidden_state
    return states


class _Passthrough(nn.Module):
    """Stands where the embeddings were: its input is hidden states already."""

    def forward(
        self, input_ids: None = None, inputs_embeds: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        """The hidden states that came instead of token ids."""
        if inputs_embeds is None or input_ids is not None:
            raise ValueError("the upper part of a split takes hidden states, not token ids")
        return inputs_embeds


class _FirstToken(nn.Module):
    """A BERT layer that computes its output at the first token only.

    With one query q there is no need for every token's key and value: per head,
    q · (W_k h_j) = (W_kᵀ q) · h_j and Σ_j a_j W_v h_j = W_v Σ_j a_j h_j, which costs heads × width
    instead of width² multiplications per token and matrix. The same numbers up to rounding.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        layer: Any = self.layer
        first = hidden_states[:, :1]
        context = _first_token_attention(layer.attention.self, hidden_states, attention_mask)
        result: Tensor = layer.feed_forward_chunk(layer.attention.output(context, first))
        return result


def _first_token_attention(attention: Any, states: Tensor, mask: Tensor | None) -> Tensor:
    """Self-attention's output at the first token, (texts, 1, width), for states (texts, T, width).

    Args:
        attention: BERT's self-attention module.
        states: the layer's input.
        mask: (texts, 1, 1 or T, T), bool (True is seen) or added to the scores; None: all seen.
    """
    size = attention.attention_head_size
    query = attention.query(states[:, 0]).unflatten(-1, (-1, size))
    key, value = (
        (part.weight.unflatten(0, (-1, size)), part.bias.unflatten(0, (-1, size)))
        for part in (attention.key, attention.value)
    )
    probe = torch.einsum("bhd,hdm->bhm", query, key[0])
    scores = (probe @ states.transpose(1, 2) + (query * key[1]).sum(-1, keepdim=True)) * size**-0.5
    if mask is not None:
        seen = mask[:, :, 0]
        scores = (
            scores.masked_fill(~seen, -torch.inf) if seen.dtype == torch.bool else scores + seen
        )
    weights = attention.dropout(scores.softmax(dim=-1))
    mixed = torch.einsum("bhm,hdm->bhd", weights @ states, value[0])
    # Under dropout the weights do not add up to 1, and each carries its share of the bias.
    context: Tensor = mixed + value[1] * weights.sum(-1, keepdim=True)
    return context.flatten(1).unsqueeze(1)


def _upper_layers(model: nn.Module, layers: list[nn.Module]) -> list[nn.Module]:
    config: Any = model.config
    fits = layers and hasattr(layers[-1], "feed_forward_chunk")
    if fits and config._attn_implementation in _FIRST_TOKEN_ATTENTION and not config.is_decoder:  # noqa: SLF001
        return [*layers[:-1], _FirstToken(layers[-1])]
    return layers


def _with_layers(base: nn.Module, layers: list[nn.Module]) -> nn.Module:
    """The encoder with other layers; everything else is shared with the original."""
    copied = twin(base)
    original = encoder_layers(base)
    for name, child in base.named_children():
        for inner, candidate in child.named_children():
            if candidate is original:
                stack = twin(child)
                setattr(stack, inner, nn.ModuleList(layers))
                setattr(copied, name, stack)
    return copied


def twin(module: nn.Module) -> nn.Module:
    """A shallow copy: the same submodules and parameters, in a registry of its own."""
    copied = copy.copy(module)
    copied._modules = dict(module._modules)  # noqa: SLF001 - torch offers no public shallow copy
    return copied


def _base(model: nn.Module) -> nn.Module:
    base = getattr(model, "base_model", model)
    return base if isinstance(base, nn.Module) else model


def _holds(module: nn.Module, layers: nn.ModuleList) -> bool:
    return any(child is layers for child in module.modules())
