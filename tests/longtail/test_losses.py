"""The losses against the equations written out with plain numbers, and each known trap."""

import copy
import dataclasses
import math
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from longtail.config import LOSS_NAMES, LossSettings
from longtail.errors import ConfigError, DataError
from longtail.losses import (
    PRESETS,
    LossSpec,
    MultiLabelLoss,
    build_loss,
    mu_from_data,
    resolve_spec,
)

N = 40
SUPPORT = (25, 11, 6, 3, 1)
LABELS = len(SUPPORT)
MU = 0.405

VARIANTS = {
    **{f"preset {name}": spec for name, spec in PRESETS.items()},
    "inverse": LossSpec(reweighting="inverse"),
    "sqrt_inverse focal": LossSpec(focal=True, reweighting="sqrt_inverse"),
    **{
        f"class_balanced {mode}": LossSpec(
            reweighting="class_balanced", class_balance_mode=mode, class_balance_beta=0.97
        )
        for mode in ("by_class", "average_n", "average_w", "min_n")
    },
    "db by_instance": dataclasses.replace(PRESETS["db"], weight_norm="by_instance"),
    "db by_batch": dataclasses.replace(PRESETS["db"], weight_norm="by_batch"),
    "ntr undivided": dataclasses.replace(PRESETS["ntr-focal"], divide_negatives="when_weighted"),
    "db when_weighted": dataclasses.replace(PRESETS["db"], divide_negatives="when_weighted"),
    "uneven focal": dataclasses.replace(PRESETS["db"], focal_alpha=0.3, focal_gamma=0.5),
    "own mu": dataclasses.replace(PRESETS["db"], rebalance_mu=0.2, rebalance_beta=3.0),
    "asymmetric db": dataclasses.replace(
        PRESETS["db"], focal_gamma=0.5, focal_gamma_negatives=3.0, negative_shift=0.1
    ),
    "shift alone": LossSpec(negative_shift=0.2, neg_scale=3.0),
    "zlpr with prior": LossSpec(form="zlpr", init_bias=0.7, loss_weight=3.0),
    "two-way with prior": LossSpec(form="two_way", init_bias=0.7, two_way_temperature=1.5),
}
DEPENDING_ON_THE_BATCH = {
    name: spec
    for name, spec in VARIANTS.items()
    if spec.weight_norm == "by_batch" or spec.form == "two_way"
}
SPLITTABLE = {name: VARIANTS[name] for name in VARIANTS if name not in DEPENDING_ON_THE_BATCH}


def with_mu(spec: LossSpec) -> LossSpec:
    from_data = spec.reweighting == "rebalance" and spec.rebalance_mu is None
    return dataclasses.replace(spec, rebalance_mu=MU) if from_data else spec


def build(spec: LossSpec, *, support=SUPPORT, texts=N, dtype=torch.float64) -> MultiLabelLoss:
    return MultiLabelLoss(with_mu(spec), torch.tensor(support), torch.tensor(texts), dtype=dtype)


def batch(rows=7, *, seed=0, dtype=torch.float64):
    """Logits, targets with an unlabelled text in row 0, and a mask that hides a third."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, LABELS, generator=draw, dtype=torch.float64) * 3
    targets = (torch.rand(rows, LABELS, generator=draw) < 0.4).double()
    targets[:1] = 0
    known = torch.rand(rows, LABELS, generator=draw) < 0.67
    return logits.to(dtype), targets, known


# --- the equations, with plain numbers, one cell at a time -------------------------------------


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def naive_weight(spec, label, positives, n, texts):
    """Weight of one cell; ``positives`` are the labels that its text is known to have."""

    def balanced(count):
        return (1 - spec.class_balance_beta) / (1 - spec.class_balance_beta**count)

    if spec.reweighting == "none":
        return 1.0
    if spec.reweighting == "inverse":
        return texts[label] / n[label]
    if spec.reweighting == "sqrt_inverse":
        return math.sqrt(texts[label] / n[label])
    if spec.reweighting == "class_balanced" and spec.class_balance_mode == "by_class":
        return balanced(n[label])
    if not positives:
        return 1.0
    if spec.reweighting == "rebalance":
        ratio = (1 / n[label]) / sum(1 / n[j] for j in positives)
        return spec.rebalance_alpha + sigmoid(spec.rebalance_beta * (ratio - spec.rebalance_mu))
    if spec.class_balance_mode == "average_n":
        return balanced(statistics.fmean(n[j] for j in positives))
    if spec.class_balance_mode == "average_w":
        return statistics.fmean(balanced(n[j]) for j in positives)
    return balanced(min(n[j] for j in positives))


def naive_cell(spec, z, y, n, texts):
    z = z - spec.init_bias * math.log(texts / n - 1)
    gamma = spec.focal_gamma
    if y:
        p_t = sigmoid(z)
        alpha_t, divisor = spec.focal_alpha, 1.0
    else:
        p_t = 1 - max(sigmoid(spec.neg_scale * z) - spec.negative_shift, 0)
        alpha_t, divisor = 1 - spec.focal_alpha, spec.neg_scale
        gamma = gamma if spec.focal_gamma_negatives is None else spec.focal_gamma_negatives
        if spec.divide_negatives == "when_weighted" and spec.reweighting == "none":
            divisor = 1.0
    factor = alpha_t * (1 - p_t) ** gamma if spec.focal else 1.0
    return -factor * math.log(p_t) / divisor


def naive_compared(spec, logits, targets, known):
    """zlpr and two-way, from the adjusted logits."""

    def sums(cells, temperature):
        """Σ_neg e^z and (Σ_pos e^(−z/T))^T; of nothing 0."""
        seen = [(logits[i][j], targets[i][j]) for i, j in cells if known[i][j]]
        negatives = sum(math.exp(z) for z, y in seen if not y)
        return negatives, sum(math.exp(-z / temperature) for z, y in seen if y) ** temperature

    rows = [[(i, j) for j in range(LABELS)] for i in range(len(logits))]
    columns = [[(i, j) for i in range(len(logits))] for j in range(LABELS)]
    if spec.form == "zlpr":
        return sum(
            sum(known[i][j] for i, j in row) * sum(math.log1p(part) for part in sums(row, 1.0))
            for row in rows
        )
    total = 0.0
    for way in (rows, columns):
        pairs = [sums(cells, spec.two_way_temperature) for cells in way]
        terms = [math.log1p(neg * pos) for neg, pos in pairs if pos]
        total += statistics.fmean(terms) if terms else 0.0
    return total * sum(map(sum, known))


def naive_sum(spec, logits, targets, known, support=SUPPORT, texts=(N,) * LABELS):
    """The whole loss: a double loop over texts and labels."""
    texts = [max(total, 2) for total in texts]
    n = [min(max(count, 1), total - 1) for count, total in zip(support, texts, strict=True)]
    if spec.form != "pointwise":
        bias = [
            -spec.init_bias * math.log(total / count - 1)
            for count, total in zip(n, texts, strict=True)
        ]
        shifted = [[z + b for z, b in zip(row, bias, strict=True)] for row in logits]
        return naive_compared(spec, shifted, targets, known) * spec.loss_weight
    weights = {}
    for i, row in enumerate(targets):
        positives = [j for j, y in enumerate(row) if y and known[i][j]]
        for j in range(len(row)):
            if known[i][j]:
                weights[i, j] = naive_weight(spec, j, positives, n, texts)
    largest = {
        i: max((w for (k, _), w in weights.items() if k == i), default=1) for i, _ in weights
    }
    total = 0.0
    for (i, j), weight in weights.items():
        norm = {
            "none": 1.0,
            "by_instance": largest[i],
            "by_batch": max(weights.values()),
        }[spec.weight_norm]
        total += weight / norm * naive_cell(spec, logits[i][j], targets[i][j], n[j], texts[j])
    return total * spec.loss_weight


def naive_gradient(spec, logits, targets, known):
    """Central differences of the naive sum, by cell."""
    step = 1e-5
    gradient = [[0.0] * LABELS for _ in logits]
    for i in range(len(logits)):
        for j in range(LABELS):
            up, down = copy.deepcopy(logits), copy.deepcopy(logits)
            up[i][j] += step
            down[i][j] -= step
            difference = naive_sum(spec, up, targets, known) - naive_sum(spec, down, targets, known)
            gradient[i][j] = difference / (2 * step)
    return gradient


@pytest.mark.parametrize("masked", [False, True], ids=["all known", "masked"])
@pytest.mark.parametrize("name", VARIANTS)
def test_value_and_gradient_are_those_of_the_equations(name, masked):
    spec = with_mu(VARIANTS[name])
    logits, targets, known = batch()
    logits.requires_grad_()
    mask = known if masked else None
    loss = build(spec).sum(logits, targets, mask)
    loss.backward()
    seen = known.tolist() if masked else [[True] * LABELS for _ in range(len(logits))]
    plain = logits.detach().tolist()
    assert loss.item() == pytest.approx(naive_sum(spec, plain, targets.tolist(), seen), rel=1e-12)
    expected = torch.tensor(naive_gradient(spec, plain, targets.tolist(), seen))
    torch.testing.assert_close(logits.grad, expected.double(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", VARIANTS)
def test_gradcheck(name):
    loss = build(VARIANTS[name])
    logits, targets, known = batch(3)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, targets, known), logits)


def test_bce_is_torchs_binary_cross_entropy():
    logits, targets, _ = batch(32, dtype=torch.float32)
    expected = binary_cross_entropy_with_logits(logits, targets.float(), reduction="sum")
    torch.testing.assert_close(build(PRESETS["bce"]).sum(logits, targets), expected)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(VARIANTS)),
    st.integers(0, 2**31),
    st.lists(st.integers(0, 12), min_size=LABELS, max_size=LABELS),
)
def test_equations_hold_for_any_support_up_to_none_and_all(name, seed, support):
    spec = with_mu(VARIANTS[name])
    logits, targets, known = batch(4, seed=seed)
    texts = [12, 12, 12, 1, 0]
    loss = MultiLabelLoss(spec, torch.tensor(support), torch.tensor(texts), dtype=torch.float64)
    expected = naive_sum(spec, logits.tolist(), targets.tolist(), known.tolist(), support, texts)
    assert loss(logits, targets, known).item() == pytest.approx(expected, rel=1e-11)


# --- the traps ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_callers_tensors_are_not_changed(name):
    logits, targets, known = batch()
    before = [tensor.clone() for tensor in (logits, targets, known)]
    build(VARIANTS[name])(logits, targets, known)
    for tensor, original in zip((logits, targets, known), before, strict=True):
        assert torch.equal(tensor, original)


@pytest.mark.parametrize("name", VARIANTS)
def test_labels_that_no_text_or_every_text_has_stay_finite(name):
    loss = build(VARIANTS[name], support=(0, N, N - 1, 1, 0), dtype=torch.float32)
    logits, targets, _ = batch(dtype=torch.float32)
    logits.requires_grad_()
    value = loss.sum(logits, targets)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


WEIGHTED = {name: spec for name, spec in VARIANTS.items() if spec.reweighting != "none"}


@pytest.mark.parametrize("name", WEIGHTED)
def test_texts_without_labels_have_weight_one(name):
    """Where the weight is made of the text's labels; elsewhere it is the label's own."""
    spec = dataclasses.replace(WEIGHTED[name], weight_norm="none")
    made_of_text = spec.reweighting == "rebalance" or (
        spec.reweighting == "class_balanced" and spec.class_balance_mode != "by_class"
    )
    unweighted = dataclasses.replace(spec, reweighting="none", divide_negatives="always")
    logits, _, _ = batch()
    nothing = torch.zeros_like(logits)
    weighted, plain = build(spec)(logits, nothing), build(unweighted)(logits, nothing)
    assert torch.isclose(weighted, plain).item() is made_of_text


def test_state_is_in_the_state_dict():
    source = build(PRESETS["db"], dtype=torch.float32)
    target = build(
        dataclasses.replace(PRESETS["db"], rebalance_mu=0.9), support=(5,) * LABELS,
        dtype=torch.float32,
    )  # fmt: skip
    logits, targets, _ = batch(dtype=torch.float32)
    assert source(logits, targets) != target(logits, targets)
    target.load_state_dict(source.state_dict())
    assert source(logits, targets) == target(logits, targets)
    assert set(source.state_dict()) == {"support", "bias", "label_weight", "mu"}


def test_to_moves_everything():
    loss = build(dataclasses.replace(PRESETS["db"], weight_norm="by_batch")).to("meta")
    logits, targets, known = (tensor.to("meta") for tensor in batch())
    assert loss(logits, targets, known).device.type == "meta"
    assert loss.cells(targets).device.type == "meta"


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_huge_logits_stay_finite(name, dtype, size):
    loss = build(VARIANTS[name], dtype=torch.float32)
    logits = torch.full((2, LABELS), size, dtype=dtype, requires_grad=True)
    targets = torch.tensor([[1.0] * LABELS, [0.0] * LABELS])
    value = loss.mean(logits, targets)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_focal_gradient_where_the_power_has_an_infinite_slope(gamma):
    loss = build(LossSpec(focal=True, focal_gamma=gamma), dtype=torch.float32)
    logits = torch.full((1, LABELS), 200.0, requires_grad=True)
    loss(logits, torch.ones(1, LABELS)).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(name, dtype):
    loss = build(VARIANTS[name], dtype=torch.float32)
    logits, targets, known = batch(dtype=dtype)
    half, full = logits.clone().requires_grad_(), logits.float().requires_grad_()
    from_half, from_full = loss(half, targets, known), loss(full, targets, known)
    assert from_half.dtype == torch.float32
    assert torch.equal(from_half, from_full)
    from_half.backward()
    from_full.backward()
    assert half.grad.dtype == dtype
    assert torch.equal(half.grad, full.grad.to(dtype))


@pytest.mark.parametrize("name", VARIANTS)
def test_autocast_changes_nothing(name):
    loss = build(VARIANTS[name], dtype=torch.float32)
    logits, targets, known = batch(dtype=torch.bfloat16)
    outside = loss(logits, targets, known)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(logits, targets, known)
    assert torch.equal(inside, outside)


def test_bias_is_seen_by_the_loss_alone():
    """κ shifts the logits by the prior: an untrained model pays as if it knew the prior."""
    loss = build(LossSpec(init_bias=1.0))
    assert VARIANTS["preset la"] == LossSpec(init_bias=1.0)
    logits = torch.zeros(1, LABELS, dtype=torch.float64)
    priors = torch.tensor(SUPPORT, dtype=torch.float64) / N
    expected = -torch.log(priors).sum()
    torch.testing.assert_close(loss(logits, torch.ones(1, LABELS)), expected)


@pytest.mark.parametrize("name", ["preset ntr-focal", "preset db"])
def test_the_switch_for_dividing_negatives(name):
    """The published code leaves λ out where there is no weight; the equation never does."""
    spec = VARIANTS[name]
    published = dataclasses.replace(spec, divide_negatives="when_weighted")
    logits, _, _ = batch()
    negatives = torch.zeros_like(logits)
    ratio = build(published)(logits, negatives) / build(spec)(logits, negatives)
    assert ratio.item() == pytest.approx(2.0 if name == "preset ntr-focal" else 1.0)


# --- unknown cells, empty batches, micro-batches -----------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_unknown_cells_add_nothing_whatever_they_hold(name):
    loss = build(VARIANTS[name])
    logits, targets, known = batch()
    clean = logits.clone().requires_grad_()
    spoilt = torch.where(known, logits, torch.nan).requires_grad_()
    flipped = torch.where(known, targets, 1 - targets)
    first, second = loss(clean, targets, known), loss(spoilt, flipped, known)
    assert torch.equal(first, second)
    first.backward()
    second.backward()
    assert torch.equal(clean.grad, spoilt.grad)
    assert (spoilt.grad[~known] == 0).all()
    pays_nothing = VARIANTS[name].negative_shift > 0 or VARIANTS[name].form == "two_way"
    pulls = spoilt.grad[known] != 0
    assert pulls.any() if pays_nothing else pulls.all()


def test_cells_are_counted():
    loss = build(PRESETS["bce"])
    logits, targets, known = batch()
    assert loss.cells(targets).item() == logits.numel()
    assert loss.cells(targets, known).item() == int(known.sum())
    expected = loss.sum(logits, targets, known) / known.sum()
    assert torch.equal(loss.mean(logits, targets, known), expected)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("case", ["no texts", "nothing known"])
def test_empty_batch_gives_zero(name, case):
    loss = build(VARIANTS[name])
    logits, targets, known = batch(0 if case == "no texts" else 4)
    logits.requires_grad_()
    value = loss.mean(logits, targets, torch.zeros_like(known))
    value.backward()
    assert value.item() == 0.0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", SPLITTABLE)
def test_micro_batches_add_up_to_the_batch(name):
    loss = build(SPLITTABLE[name])
    logits, targets, known = batch(8)
    whole, cut = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss(whole, targets, known).backward()
    parts = zip(cut.split(3), targets.split(3), known.split(3), strict=True)
    total = sum(loss(*part) for part in parts)
    total.backward()
    torch.testing.assert_close(total, loss(logits, targets, known))
    torch.testing.assert_close(cut.grad, whole.grad)


@pytest.mark.parametrize("name", DEPENDING_ON_THE_BATCH)
def test_what_depends_on_the_batch(name):
    """Documented: such a loss is another one when a step is cut into micro-batches."""
    loss = build(VARIANTS[name])
    logits, targets, _ = batch(8)
    parts = zip(logits.split(1), targets.split(1), strict=True)
    assert abs(sum(loss(*part) for part in parts) / loss(logits, targets) - 1) > 0.001


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float16])
def test_targets_of_any_type(kind):
    loss = build(PRESETS["db"])
    logits, targets, _ = batch()
    assert torch.equal(loss(logits, targets.to(kind)), loss(logits, targets))


@pytest.mark.parametrize("name", VARIANTS)
def test_compiles_to_one_graph(name):
    loss = build(VARIANTS[name], dtype=torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    logits, targets, known = batch(dtype=torch.float32)
    torch.testing.assert_close(compiled(logits, targets, known), loss(logits, targets, known))


@pytest.mark.parametrize("name", ["preset db", "asymmetric db", "preset zlpr", "preset two-way"])
def test_compiled_gradients_are_the_same(name):
    """What is changed in place is traced through with the backward pass."""
    check_compiled(VARIANTS[name], "aot_eager")


@pytest.mark.slow
def test_compiled_to_machine_code_where_there_is_a_compiler():
    compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
    check_compiled(PRESETS["db"], "inductor" if compiler else "aot_eager")


def check_compiled(spec, backend):
    loss = build(spec, dtype=torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(loss, backend=backend, fullgraph=True)
    logits, targets, known = batch(dtype=torch.float32)
    one, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    eager_value, compiled_value = loss(one, targets, known), compiled(other, targets, known)
    torch.testing.assert_close(compiled_value, eager_value)
    eager_value.backward()
    compiled_value.backward()
    torch.testing.assert_close(other.grad, one.grad)


def test_shapes_that_do_not_fit():
    loss = build(PRESETS["db"])
    with pytest.raises(ValueError, match=r"targets \(7, 4\).*expected the same \(texts, 5\)"):
        loss(torch.zeros(7, 5), torch.zeros(7, 4))
    with pytest.raises(ValueError, match=r"known \(1, 5\)"):
        loss(torch.zeros(7, 5), torch.zeros(7, 5), torch.ones(1, 5).bool())
    with pytest.raises(ValueError, match="logits have shape"):
        loss(torch.zeros(5), torch.zeros(5))


# --- from the training set ---------------------------------------------------------------------


def labels_matrix(seed=3, rows=60):
    dense = np.random.default_rng(seed).random((rows, LABELS)) < [0.6, 0.3, 0.15, 0.08, 0.03]
    dense[0] = False
    return sp.csr_array(dense)


def test_mu_is_the_midpoint_of_mean_and_median_of_r():
    y = labels_matrix()
    dense = y.toarray()
    n = dense.sum(axis=0)
    ratios = [
        (1 / n[j]) / sum(1 / n[k] for k in np.flatnonzero(row))
        for row in dense
        for j in np.flatnonzero(row)
    ]
    expected = (statistics.fmean(ratios) + statistics.median(ratios)) / 2
    assert mu_from_data(y, n) == pytest.approx(expected, rel=1e-12)
    assert build_loss(LossSettings(name="db"), support=n, n_texts=60, y=y).mu.item() == (
        pytest.approx(expected, rel=1e-6)
    )


def test_mu_does_not_read_stored_zeros():
    y = labels_matrix()
    padded = sp.csr_array(
        (np.append(y.data, False), np.append(y.indices, 0), np.append(y.indptr[:-1], y.nnz + 1)),
        shape=y.shape,
    )
    n = y.toarray().sum(axis=0)
    assert mu_from_data(padded, n) == mu_from_data(y, n)


def test_mu_of_texts_with_one_label_each_is_one():
    y = sp.csr_array(np.eye(4, dtype=bool))
    assert mu_from_data(y, [1, 1, 1, 1]) == 1.0


def test_mu_needs_a_positive():
    with pytest.raises(DataError, match="no text of the training set has a label"):
        mu_from_data(sp.csr_array((3, 2), dtype=bool), [0, 0])


def test_mu_can_be_given():
    loss = build_loss(
        LossSettings(name="db", options={"rebalance_mu": 0.3}), support=SUPPORT, n_texts=N
    )
    assert loss.mu.item() == pytest.approx(0.3)
    assert loss.spec.rebalance_mu == 0.3


def test_rebalancing_needs_labels_or_mu():
    with pytest.raises(ValueError, match="pass y"):
        build_loss(LossSettings(name="db"), support=SUPPORT, n_texts=N)
    with pytest.raises(ValueError, match="mu_from_data"):
        MultiLabelLoss(PRESETS["db"], torch.tensor(SUPPORT), torch.tensor(N))


def test_texts_are_counted_per_label_over_known_cells():
    known = np.ones((N, LABELS), dtype=bool)
    known[:20, 2] = False
    whole = build_loss(PRESETS["ntr-focal"], support=SUPPORT, n_texts=N)
    partly = build_loss(PRESETS["ntr-focal"], support=SUPPORT, n_texts=N, known=known)
    changed = (whole.bias != partly.bias).tolist()
    assert changed == [False, False, True, False, False]
    assert partly.bias[2].item() == pytest.approx(-0.05 * math.log(20 / 6 - 1), rel=1e-6)
    assert torch.equal(
        build_loss(
            PRESETS["ntr-focal"], support=SUPPORT, n_texts=N, known=sp.csr_array(known)
        ).bias,
        partly.bias,
    )


def test_no_label_at_all():
    with pytest.raises(DataError, match="no label"):
        build_loss(LossSettings(name="bce"), support=[], n_texts=N)


def test_support_must_be_a_vector():
    with pytest.raises(ValueError, match="expected \\(L,\\)"):
        MultiLabelLoss(PRESETS["bce"], torch.ones(2, 2), torch.tensor(3))


# --- settings ----------------------------------------------------------------------------------


def test_presets_are_those_of_the_configuration():
    assert tuple(PRESETS) == LOSS_NAMES


def test_the_reference_names_every_field_and_preset():
    page = (Path(__file__).parents[2] / "docs/reference/losses.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(LossSpec):
        assert f"| `{field.name}` | `{field.default}`" in page
    for name in PRESETS:
        assert f"| `{name}` |" in page


def test_options_override_fields():
    spec = resolve_spec(LossSettings(name="db", options={"focal_gamma": 1, "neg_scale": 5.0}))
    assert spec == dataclasses.replace(PRESETS["db"], focal_gamma=1.0, neg_scale=5.0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("db", {"gama": 2.0}, "'gama' does not exist; the options are form, focal, focal_alpha"),
        ("db", {"focal_gamma": "much"}, "focal_gamma='much': expected a valid number"),
        ("db", {"focal_gamma": -1.0}, "focal_gamma=-1.0: expected greater than or equal to 0"),
        ("db", {"focal_gamma": True}, "focal_gamma=True: expected a valid number"),
        ("db", {"focal_gamma": math.inf}, "focal_gamma=inf: expected a finite number"),
        ("db", {"focal_gamma": None}, "focal_gamma=None"),
        ("db", {"neg_scale": 0.0}, "neg_scale=0.0: expected greater than 0"),
        ("db", {"focal": "yes"}, "focal='yes': expected a valid boolean"),
        ("db", {"reweighting": "inverse_of_nothing"}, "'none', 'inverse', 'sqrt_inverse'"),
        ("db", {"weight_norm": "by_label"}, "'none', 'by_instance' or 'by_batch'"),
        ("db", {"class_balance_beta": 1.0}, "class_balance_beta=1.0: expected less than 1"),
        ("bce", {"focal_gamma": 2.0}, "no effect on the loss 'bce' without focal=true"),
        ("ntr-focal", {"rebalance_mu": 0.4}, "without reweighting='rebalance'"),
        ("db", {"class_balance_mode": "min_n"}, "without reweighting='class_balanced'"),
        ("focal", {"weight_norm": "by_batch"}, "without a reweighting other than 'none'"),
        ("focal", {"divide_negatives": "always"}, "without a neg_scale other than 1"),
        ("bce", {"focal_gamma_negatives": 4.0}, "without focal=true"),
        ("asl", {"negative_shift": 1.0}, "negative_shift=1.0: expected less than 1"),
        ("bce", {"form": "tree"}, "form='tree': expected 'pointwise', 'zlpr' or 'two_way'"),
        ("zlpr", {"neg_scale": 2.0}, "option neg_scale is no term of the form 'zlpr'"),
        ("db", {"form": "two_way"}, "option focal is no term of the form 'two_way'; that takes"),
        ("zlpr", {"two_way_temperature": 2.0}, "no effect on the loss 'zlpr' without form="),
    ],
)
def test_impossible_options(name, options, message):
    with pytest.raises(ConfigError) as error:
        resolve_spec(LossSettings(name=name, options=options))
    assert message in str(error.value)


def test_specs_are_checked_without_torch():
    code = (
        "import sys, longtail.losses as losses; losses.resolve_spec(losses.PRESETS['db']);"
        "assert 'torch' not in sys.modules; losses.build_loss; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_other_attributes():
    import longtail.losses as losses

    with pytest.raises(AttributeError, match="no attribute 'other'"):
        losses.other  # noqa: B018
