"""What a loss is made of, as data: the terms, the presets, and the article's own notation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from longtail.config import LossName, LossSettings
from longtail.errors import ConfigError

Form = Literal["pointwise", "zlpr", "two_way"]
Reweighting = Literal["none", "inverse", "sqrt_inverse", "class_balanced", "rebalance"]
ClassBalanceMode = Literal["by_class", "average_n", "average_w", "min_n"]
WeightNorm = Literal["none", "by_instance", "by_batch"]
DivideNegatives = Literal["always", "when_weighted"]
Number = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
_OTHER_FORMS_TAKE = frozenset({"form", "init_bias", "two_way_temperature", "loss_weight"})


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class LossSpec:
    """The terms of a multi-label loss; the default is plain binary cross-entropy.

    Equations and sources are in ``docs/reference/losses.md``. z are logits, y labels, n the
    positives of a label and N the texts of the training set, σ the logistic function.

    Attributes:
        form: how cells become a loss. ``pointwise``: each cell pays for itself, a form of
            cross-entropy; ``zlpr``: the cells of a text compete (Su et al., 2022); ``two_way``:
            those of a text and those of a label do (Kobayashi, CVPR 2023). The last two take
            ``init_bias`` and ``loss_weight``, and no other term.
        focal: multiply by the focal factor α_t (1 − p_t)^γ (Lin et al., ICCV 2017, eq. 5).
        focal_alpha: α of positives; negatives have 1 − α.
        focal_gamma: γ; 0 leaves only α_t.
        focal_gamma_negatives: γ of negatives; None: that of positives. Asymmetric loss, Ridnik et
            al. (ICCV 2021), eq. 4.
        negative_shift: m, by which the probability of a negative is lowered, never below 0; one
            that is low enough pays nothing (Ridnik et al., eq. 5).
        reweighting: the weight of a cell. ``inverse``: N/n; ``sqrt_inverse``: √(N/n);
            ``class_balanced``: (1 − β)/(1 − β^n) (Cui et al., CVPR 2019);
            ``rebalance``: α + σ(β(r − μ)) (Wu et al., ECCV 2020).
        rebalance_alpha: α, added to every weight.
        rebalance_beta: β, the steepness of the map.
        rebalance_mu: μ, the r at which the map is half way; None takes it from the training set.
        class_balance_mode: which n a cell's weight is made of: its label's (``by_class``), or,
            over the positives of the text, their mean n (``average_n``), the mean of their
            weights (``average_w``), the smallest n (``min_n``).
        class_balance_beta: β of the effective number of samples.
        init_bias: κ of b = −κ·ln(N/n − 1), which is added to the logits (Wu et al.).
        neg_scale: λ, which multiplies the logits of negatives and divides their term.
        divide_negatives: ``always`` follows the equation; ``when_weighted`` divides only where
            ``reweighting`` is not ``none``, as the published code does.
        weight_norm: divide the weights by the largest of the text or of the batch.
        two_way_temperature: T of the positives; above 1, more than the worst of them count.
        loss_weight: multiplies the whole loss.
    """

    form: Form = "pointwise"
    focal: bool = False
    focal_alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    focal_gamma: NotNegative = 2.0
    focal_gamma_negatives: NotNegative | None = None
    negative_shift: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    reweighting: Reweighting = "none"
    rebalance_alpha: NotNegative = 0.1
    rebalance_beta: Positive = 10.0
    rebalance_mu: Number | None = None
    class_balance_mode: ClassBalanceMode = "by_class"
    class_balance_beta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9
    init_bias: Number = 0.0
    neg_scale: Positive = 1.0
    divide_negatives: DivideNegatives = "always"
    weight_norm: WeightNorm = "none"
    two_way_temperature: Positive = 4.0
    loss_weight: Positive = 1.0

    @model_validator(mode="after")
    def _only_terms_of_the_form(self) -> LossSpec:
        if self.form != "pointwise":
            for field in dataclasses.fields(self):
                changed = getattr(self, field.name) != field.default
                if changed and field.name not in _OTHER_FORMS_TAKE:
                    raise ValueError(
                        f"{field.name} is no term of the form {self.form!r}; that takes "
                        "init_bias and loss_weight"
                    )
        return self

    @property
    def negatives_divided(self) -> bool:
        """Whether the negatives' term is divided by λ."""
        return self.divide_negatives == "always" or self.reweighting != "none"


PRESETS: dict[LossName, LossSpec] = {
    "bce": LossSpec(),
    "focal": LossSpec(focal=True),
    "cb-focal": LossSpec(focal=True, reweighting="class_balanced", loss_weight=10.0),
    "r-focal": LossSpec(focal=True, reweighting="rebalance"),
    "ntr-focal": LossSpec(focal=True, init_bias=0.05, neg_scale=2.0),
    "db-0focal": LossSpec(reweighting="rebalance", init_bias=0.05, neg_scale=2.0, loss_weight=0.5),
    "cb-ntr": LossSpec(
        focal=True,
        reweighting="class_balanced",
        init_bias=0.05,
        neg_scale=2.0,
        loss_weight=10.0,
    ),
    "db": LossSpec(focal=True, reweighting="rebalance", init_bias=0.05, neg_scale=2.0),
    # Ours: db-0focal with a floor that leaves the common labels more of their weight.
    "db-soft": LossSpec(
        reweighting="rebalance",
        rebalance_alpha=0.4,
        init_bias=0.05,
        neg_scale=2.0,
        loss_weight=0.5,
    ),
    # There is no α in the asymmetric loss: 2 undoes the two halves.
    "asl": LossSpec(
        focal=True,
        focal_gamma=1.0,
        focal_gamma_negatives=4.0,
        negative_shift=0.05,
        loss_weight=2.0,
    ),
    "zlpr": LossSpec(form="zlpr"),
    # Logit adjustment adds τ times the prior's log-odds, which is the bias with κ = τ.
    "la": LossSpec(init_bias=1.0),
    "two-way": LossSpec(form="two_way"),
}
"""Named losses with their hyper-parameters: those of Huang et al. (EMNLP 2021), and others."""

_FIELDS = tuple(field.name for field in dataclasses.fields(LossSpec))
_IN_USE: dict[str, tuple[str, Callable[[LossSpec], bool]]] = {
    "focal_": ("focal=true", lambda spec: spec.focal),
    "rebalance_": ("reweighting='rebalance'", lambda spec: spec.reweighting == "rebalance"),
    "class_balance_": (
        "reweighting='class_balanced'",
        lambda spec: spec.reweighting == "class_balanced",
    ),
    "divide_negatives": ("a neg_scale other than 1", lambda spec: spec.neg_scale != 1.0),
    "two_way_temperature": ("form='two_way'", lambda spec: spec.form == "two_way"),
    "weight_norm": ("a reweighting other than 'none'", lambda spec: spec.reweighting != "none"),
}


def resolve_spec(settings: LossSettings | LossSpec) -> LossSpec:
    """The preset that the settings name with their options, or the article's arguments.

    Raises:
        ConfigError: an option that does not exist, a value it cannot have, or an option that
            would have no effect on this loss.
    """
    if isinstance(settings, LossSpec):
        return settings
    if settings.article is not None:
        return from_article_config(settings.article)
    if settings.name == "auto":
        raise ConfigError("the loss auto stands for a shortlist: take one of its candidates")
    preset = PRESETS[cast("LossName", settings.name)]
    options = settings.options
    unknown = sorted(set(options) - set(_FIELDS))
    if unknown:
        raise ConfigError(
            f"loss option {unknown[0]!r} does not exist; the options are {', '.join(_FIELDS)}"
        )
    spec = _checked({**dataclasses.asdict(preset), **options}, "loss option")
    _refuse_without_effect(settings.name, options, spec)
    return spec


def from_article_config(config: Mapping[str, Any]) -> LossSpec:
    """The loss that the article's constructor arguments describe.

    Accepted, all optional (the mapping may also hold them as None):

    * ``focal``: bool, or a mapping with ``focal`` (bool), ``alpha``, ``gamma``;
    * ``reweight_func``: None, ``"inv"``, ``"sqrt_inv"``, ``"rebalance"`` or ``"CB"``;
    * ``map_param``: ``alpha`` and ``beta`` of the rebalancing, and ``gamma``, which is μ here;
    * ``CB_loss``: ``CB_beta`` and ``CB_mode``;
    * ``logit_reg``: ``init_bias`` and ``neg_scale``;
    * ``weight_norm``: None, ``"by_instance"`` or ``"by_batch"``;
    * ``partial``: bool; read and not needed, since unknown cells are masked whenever they are
      given;
    * ``loss_weight``;
    * ``reduction``: ``"mean"``, the only one there is.

    Parameters of a term that is switched off are ignored, as the article's constructor does.

    Raises:
        ConfigError: an unknown name or an impossible value.
    """
    given = {key: value for key, value in config.items() if value is not None}
    _refuse_unknown("", given, _ARTICLE_NAMES)
    if given.get("reduction", "mean") != "mean":
        raise ConfigError(
            f"reduction={given['reduction']!r}: a loss here is always the mean over known cells; "
            "leave reduction out and scale with loss_weight"
        )
    if not isinstance(given.get("partial", False), bool):
        raise ConfigError(f"partial={given['partial']!r}: expected true or false")
    fields: dict[str, Any] = {}
    fields |= _article_focal(given.get("focal", False))
    fields |= _article_group("map_param", given, _MAP_PARAM)
    fields |= _article_group("CB_loss", given, _CB_LOSS)
    fields |= _article_group("logit_reg", given, _LOGIT_REG)
    fields |= {name: given[name] for name in ("weight_norm", "loss_weight") if name in given}
    if "reweight_func" in given:
        fields["reweighting"] = _article_reweighting(given["reweight_func"])
    return _checked(fields, "the article's loss argument")


_ARTICLE_NAMES = (
    "focal", "map_param", "CB_loss", "logit_reg", "reweight_func", "weight_norm", "partial",
    "loss_weight", "reduction",
)  # fmt: skip
_MAP_PARAM = {"alpha": "rebalance_alpha", "beta": "rebalance_beta", "gamma": "rebalance_mu"}
_CB_LOSS = {"CB_beta": "class_balance_beta", "CB_mode": "class_balance_mode"}
_LOGIT_REG = {"init_bias": "init_bias", "neg_scale": "neg_scale"}
_REWEIGHT_FUNC: dict[str, Reweighting] = {
    "inv": "inverse",
    "sqrt_inv": "sqrt_inverse",
    "rebalance": "rebalance",
    "CB": "class_balanced",
}


def _article_focal(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"focal": value}
    names = {"focal": "focal", "alpha": "focal_alpha", "gamma": "focal_gamma"}
    return {"focal": True} | _article_group("focal", {"focal": value}, names)


def _article_group(
    argument: str, given: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
    value = given.get(argument, {})
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{argument}={value!r}: expected a mapping with the keys {', '.join(names)}"
        )
    _refuse_unknown(f"{argument}.", value, tuple(names))
    return {names[key]: item for key, item in value.items()}


def _article_reweighting(value: Any) -> Reweighting:
    # Looked up whole: a choice by substring would read "inverse_of_x" as "inv".
    if not isinstance(value, str) or value not in _REWEIGHT_FUNC:
        raise ConfigError(
            f"reweight_func={value!r}: expected None or one of {', '.join(_REWEIGHT_FUNC)}"
        )
    return _REWEIGHT_FUNC[value]


def _refuse_unknown(prefix: str, given: Mapping[str, Any], names: tuple[str, ...]) -> None:
    unknown = sorted(str(key) for key in given if key not in names)
    if unknown:
        raise ConfigError(
            f"loss argument {prefix + unknown[0]!r} does not exist; "
            f"expected one of {', '.join(names)}"
        )


def _refuse_without_effect(name: str, options: Mapping[str, Any], spec: LossSpec) -> None:
    for option in options:
        for prefix, (needed, in_use) in _IN_USE.items():
            if option.startswith(prefix) and not in_use(spec):
                raise ConfigError(
                    f"loss option {option!r} has no effect on the loss {name!r} without {needed}; "
                    "set that too, or leave the option out"
                )


def _checked(fields: Mapping[str, Any], what: str) -> LossSpec:
    try:
        return LossSpec(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # ours: terms that do not go together
            raise ConfigError(f"{what} {first['msg'].removeprefix('Value error, ')}") from error
        name = str(first["loc"][0])
        raise ConfigError(
            f"{what} {name}={fields.get(name)!r}: {_expected(first['msg'])}"
        ) from error


def _expected(message: str) -> str:
    return message.replace("Input should be", "expected", 1)
