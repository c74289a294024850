from __future__ import annotations

import numpy as np
import pytest

from scim import Encoder
from scim.encoder._weights import check_weights, content_id, count_layers, fold_batch_norm

Weights = dict[str, np.ndarray]


def test_good_weights_become_float32(weights: Weights) -> None:
    checked = check_weights({name: array.astype(np.float64) for name, array in weights.items()}, n_in=765)
    assert count_layers(checked) == 2
    assert {array.dtype for array in checked.values()} == {np.dtype(np.float32)}
    assert content_id(checked, "genes") == content_id(weights, "genes")


def test_an_encoder_may_be_one_matrix() -> None:
    checked = check_weights({"output.weight": np.ones((2, 5)), "output.bias": np.zeros(2)}, n_in=5)
    assert count_layers(checked) == 0
    ((matrix, bias, slope),) = fold_batch_norm(checked)
    assert matrix.shape == (2, 5) and not bias.any() and slope is None


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("layers.1.bn.var", None, "lacks 'layers.1.bn.var'"),
        ("layers.0.dropout", np.ones(1), "holds 'layers.0.dropout'"),
        ("layers.0.weight", np.ones((32, 10)), r"layers.0.weight must be \(n_out, 765\), got \(32, 10\)"),
        ("layers.1.weight", np.ones((24, 33)), r"layers.1.weight must be \(n_out, 32\)"),
        ("layers.0.bn.mean", np.ones(31), r"layers.0.bn.mean must be \(32,\), got \(31,\)"),
        ("layers.1.prelu", np.ones(24), r"layers.1.prelu must be \(1,\)"),
        ("output.bias", np.ones(5), r"output.bias must be \(16,\)"),
        ("output.weight", np.full((16, 24), np.nan), "output.weight holds NaN"),
    ],
)
def test_bad_weights_are_named(weights: Weights, name: str, value: np.ndarray | None, text: str) -> None:
    weights.pop(name, None)
    if value is not None:
        weights[name] = value
    with pytest.raises(ValueError, match=text):
        check_weights(weights, n_in=765)


def test_decoder_must_lead_back_to_the_genes(encoder: Encoder, weights: Weights, make_weights) -> None:
    with pytest.raises(ValueError, match=r"output.weight must be \(765, n_in\)"):
        Encoder(encoder.genes, weights, decoder=make_weights([16, 24, 700]))
    assert Encoder(encoder.genes, weights, decoder=make_weights([16, 24, 765])).id == encoder.id
