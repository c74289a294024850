from __future__ import annotations

import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from torch import Tensor

from scim.model import SCIM
from scim.model._losses import LOSSES, loss_name, pair_loss, pair_term, triplet_term, twin_term
from scim.model._mining import MiningOptions, mine_triplets
from scim.model._mining_torch import pair_masks

QUICK = {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 2}
pytestmark = pytest.mark.usefixtures("one_thread")
OF_PAIRS = [loss for loss in LOSSES if loss != "triplet"]
#: T cell above CD4 T cell; B cell beside them.
BELOW = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)
COMPARABLE = BELOW | BELOW.T


def vectors(n: int, seed: int = 0) -> Tensor:
    drawn = torch.as_tensor(np.random.default_rng(seed).normal(size=(n, 4)), dtype=torch.float32)
    return torch.nn.functional.normalize(drawn, dim=1).requires_grad_()


def codes(n: int, n_labels: int = 3) -> tuple[Tensor, Tensor]:
    """Labels, one in four of them missing, and three studies."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, n_labels, n)
    labels[rng.random(n) < 0.25] = -1
    return torch.as_tensor(labels), torch.as_tensor(rng.integers(0, 3, n))


def library() -> object:
    return pytest.importorskip("pytorch_metric_learning.losses")


def test_unknown_loss_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="loss='tripplet' is not known.*'triplet'"):
        pair_loss("tripplet")


@pytest.mark.parametrize("loss", OF_PAIRS)
def test_missing_package_is_named_with_the_remedy(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(ImportError, match=r"pip install 'scim-tools\[losses\]'"):
        pair_loss(loss)
    assert pair_loss("triplet") is None


def test_a_loss_with_weights_of_its_own_is_refused() -> None:
    losses = library()
    with pytest.raises(ValueError, match="ProxyAnchorLoss has weights of its own"):
        pair_loss(losses.ProxyAnchorLoss(3, 4))
    circle = losses.CircleLoss()
    assert pair_loss(circle) is circle
    assert loss_name(circle) == "CircleLoss"


@pytest.mark.parametrize("strategy", ["semihard", "hardest", "random"])
@pytest.mark.parametrize("per_pair", [False, True])
def test_triplet_term_is_the_formula_to_the_bit(strategy: str, per_pair: bool) -> None:
    labels, studies = codes(200)
    here, there = vectors(200), vectors(200)
    mining = MiningOptions(margin=0.3, strategy=strategy, seed=7)
    found, counted = triplet_term(here, labels, studies, COMPARABLE, mining, per_pair=per_pair)
    t = mine_triplets(there.detach().numpy(), labels.numpy(), studies.numpy(), COMPARABLE, mining)
    a, p, n = (there.index_select(0, torch.as_tensor(i).long()) for i in (t.anchor, t.positive, t.negative))
    costs = torch.relu((a - p).norm(dim=1) - (a - n).norm(dim=1) + 0.3)
    n_active = int((costs > 0).sum())
    expected = costs.sum() / (t.n_candidates if per_pair else n_active)
    assert torch.equal(found, expected)
    assert counted == {"triplets_mined": len(t.anchor), "triplets_active": n_active}
    found.backward()
    expected.backward()
    assert torch.equal(here.grad, there.grad)


@pytest.mark.parametrize("positives", ["cross_study", "prefer_cross_study", "any"])
def test_pairs_are_those_of_the_ontology_and_the_studies(positives: str) -> None:
    labels, studies = codes(40)
    labels[:3], studies[labels == 2] = -1, 0  # B cells are in one study only
    same, apart = pair_masks(labels, studies, torch.as_tensor(COMPARABLE), positives)
    for a in range(40):
        for b in range(40):
            one, other = int(labels[a]), int(labels[b])
            known = one >= 0 and other >= 0
            across = studies[a] != studies[b]
            allowed = across or positives == "any" or (positives == "prefer_cross_study" and one == 2)
            assert bool(same[a, b]) == (known and a != b and one == other and bool(allowed))
            assert bool(apart[a, b]) == (known and not COMPARABLE[one, other])


def plain(loss: str, z: np.ndarray, same: np.ndarray, apart: np.ndarray) -> float:
    """The papers' formulas, with the settings of pytorch-metric-learning."""
    cosines = z @ z.T
    if loss == "contrastive":
        d = np.linalg.norm(z[:, None] - z, axis=2)
        near, far = d[same], np.maximum(1 - d[apart], 0)
        return float(near[near > 0].mean() + far[far > 0].mean())
    costs = []
    labelled = (same | apart).any(axis=1)
    for s, positive, negative in zip(cosines[labelled], same[labelled], apart[labelled], strict=True):
        if loss == "supcon" and positive.any():
            costs.append(np.log(np.exp(s[positive | negative] / 0.1).sum()) - (s[positive] / 0.1).mean())
        if loss == "multi_similarity":
            drawn = np.log1p(np.exp(-2 * (s[positive] - 0.5)).sum()) / 2
            costs.append(drawn + np.log1p(np.exp(50 * (s[negative] - 0.5)).sum()) / 50)
    return float(np.mean(costs))


@pytest.mark.parametrize("loss", OF_PAIRS)
def test_pair_term_is_the_formula_over_these_pairs(loss: str) -> None:
    library()
    (labels, studies), z = codes(60), vectors(60)
    found, counted = pair_term(pair_loss(loss), z, labels, studies, COMPARABLE, positives="prefer_cross_study")
    same, apart = pair_masks(labels, studies, torch.as_tensor(COMPARABLE), "prefer_cross_study")
    expected = plain(loss, z.detach().numpy().astype(float), same.numpy(), apart.numpy())
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert counted == {"positive_pairs": int(same.sum()), "negative_pairs": int(apart.sum())}
    found.backward()
    assert (z.grad[labels < 0] == 0).all()
    assert (z.grad[labels >= 0] != 0).any(dim=1).all()


@pytest.mark.parametrize("loss", OF_PAIRS)
@pytest.mark.parametrize("labels", [[0, 1, 0, 1], [-1, -1, -1, -1], [2, -1, -1, -1]])
def test_ancestor_and_descendant_are_not_pushed_apart(loss: str, labels: list[int]) -> None:
    library()
    z, one_study = vectors(4), torch.zeros(4, dtype=torch.long)
    found, counted = pair_term(pair_loss(loss), z, torch.tensor(labels), one_study, COMPARABLE, positives="cross_study")
    assert counted == {"positive_pairs": 0, "negative_pairs": 0}
    assert found.item() == 0
    found.backward()
    assert (z.grad == 0).all()


def test_twins_are_contrasted_with_all_but_their_kin() -> None:
    one, other = vectors(6), vectors(6, seed=1)
    labels = torch.tensor([0, 1, 2, 2, -1, -1])
    found = twin_term(one, other, labels, COMPARABLE, 0.5)
    strangers = [[2, 3, 4, 5], [2, 3, 4, 5], [0, 1, 4, 5], [0, 1, 4, 5], [0, 1, 2, 3, 5], [0, 1, 2, 3, 4]]
    costs = []
    for mine, others in ((one, other), (other, one)):
        for cell in range(6):
            own = torch.exp(mine[cell] @ others[cell] / 0.5)
            rest = torch.exp(mine[cell] @ torch.cat([one, other]).T / 0.5)
            costs.append(-torch.log(own / (own + sum(rest[s] + rest[s + 6] for s in strangers[cell]))))
    torch.testing.assert_close(found, torch.stack(costs).mean())
    found.backward()
    assert (one.grad[labels < 0] != 0).any(dim=1).all()  # cells without a label learn, too
    assert twin_term(one, one, labels, COMPARABLE, 0.5) < found


def trained(few: ad.AnnData, hidden: float = 0.0, **options: object) -> SCIM:
    adata = few.copy()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(object)
    adata.obs.loc[np.random.default_rng(0).random(adata.n_obs) < hidden, "cell_type"] = None
    SCIM.setup_anndata(adata, labels_key="cell_type", batch_key="study")
    model = SCIM(adata, n_hidden=[16], n_latent=8)
    model.train(**(QUICK | options))
    return model


def weights(model: SCIM) -> np.ndarray:
    return np.concatenate([w.ravel() for w in model.module.encoder_weights().values()])


@pytest.fixture(scope="module")
def default(few: ad.AnnData) -> SCIM:
    return trained(few)


def test_triplets_are_the_default_and_draw_what_they_drew(few: ad.AnnData, default: SCIM) -> None:
    named = trained(few, loss="triplet", plan_kwargs={"self_supervised_weight": 0.0})
    np.testing.assert_array_equal(weights(named), weights(default))
    assert default.training_["loss"] == named.training_["loss"] == "triplet"
    assert not {"pair_loss_train", "self_supervised_loss_train"} & set(default.history)


@pytest.mark.parametrize("loss", OF_PAIRS)
def test_training_with_a_loss_over_pairs(loss: str, few: ad.AnnData, default: SCIM) -> None:
    library()
    model, again = (trained(few, loss=loss, train_size=0.9) for _ in range(2))
    np.testing.assert_array_equal(weights(model), weights(again))
    assert not np.array_equal(weights(model), weights(default))
    assert model.to_encoder().provenance["loss"] == loss
    for side in ("train", "validation"):
        for part in ("pair_loss", "positive_pairs", "negative_pairs"):
            values = model.history[f"{part}_{side}"][f"{part}_{side}"].astype(float)
            assert (values > 0).all()
    assert "triplet_loss_train" not in model.history


def test_a_loss_of_the_package_is_taken_as_it_is(few: ad.AnnData) -> None:
    losses = library()
    model = trained(few, loss=losses.SupConLoss(temperature=0.1))
    np.testing.assert_array_equal(weights(model), weights(trained(few, plan_kwargs={"loss": "supcon"})))
    assert model.training_["loss"] == "SupConLoss"


@pytest.mark.filterwarnings("ignore:.*no partner for triplets")
def test_unlabelled_cells_take_part_in_the_self_supervised_contrast(few: ad.AnnData) -> None:
    options = {"hidden": 0.8, "max_epochs": 4, "plan_kwargs": {"self_supervised_weight": 1.0}}
    model, again = (trained(few, **options) for _ in range(2))
    np.testing.assert_array_equal(weights(model), weights(again))
    found = model.history["self_supervised_loss_train"]["self_supervised_loss_train"].astype(float)
    assert found.iloc[-1] < found.iloc[0]


def test_warnings_are_of_what_the_loss_needs(few: ad.AnnData) -> None:
    library()
    adata = few.copy()
    adata.obs["cell_type"] = "B cell"
    adata.obs["study"] = "one"
    with pytest.warns(UserWarning) as caught:
        trained(adata, loss="supcon")
    said = " ".join(str(warning.message) for warning in caught)
    assert "no positive pairs across studies" in said
    assert "no negative pairs: the loss (supcon) pushes nothing apart" in said
    assert "triplet" not in said


def test_weights_of_losses_are_checked(default: SCIM) -> None:
    with pytest.raises(ValueError, match=r"plan_kwargs\['self_supervised_weight'\] must lie from 0"):
        default.train(plan_kwargs={"self_supervised_weight": -1.0})
    with pytest.raises(ValueError, match="loss='supconn' is not known"):
        default.train(loss="supconn")


def test_weights_can_be_averaged_by_lightnings_callback(few: ad.AnnData, default: SCIM, tmp_path: Path) -> None:
    callbacks = pytest.importorskip("lightning.pytorch.callbacks")
    if not hasattr(callbacks, "EMAWeightAveraging"):
        pytest.skip("needs a newer lightning")
    # A decay of 0 keeps the last weights; one of 1 the first, which are those after a step.
    last, first = (trained(few, callbacks=[callbacks.EMAWeightAveraging(decay=d)]) for d in (0.0, 1.0))
    np.testing.assert_array_equal(weights(last), weights(default))
    assert not np.array_equal(weights(first), weights(default))
    first.save(f"{tmp_path}/model")
    loaded = SCIM.load(f"{tmp_path}/model", adata=False, accelerator="cpu")
    np.testing.assert_array_equal(weights(loaded), weights(first))
