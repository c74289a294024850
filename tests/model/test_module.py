from __future__ import annotations

import numpy as np
import pytest
import torch

from scim.model._augment import Augmentation
from scim.model._mining import MiningOptions
from scim.model._module import _GENES_PER_STEP, SCIMModule

HARDEST = MiningOptions(margin=1.0, strategy="hardest")


def batch(n: int = 6, n_genes: int = 5, labels: list[int] | None = None) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    rows, genes = np.nonzero(rng.random((n, n_genes)) < 0.8)
    return {
        "values": torch.from_numpy(rng.integers(1, 9, len(rows)).astype(np.float32)),
        "rows": torch.from_numpy(rows),
        "genes": torch.from_numpy(genes),
        "totals": torch.full((n,), 1e4),
        "labels": torch.tensor(labels if labels is not None else [0, 0, 0, 1, 1, 1][:n]),
        "batch": torch.arange(n) % 2,
    }


def module(n_genes: int = 5, **kwargs: object) -> SCIMModule:
    torch.manual_seed(0)
    return SCIMModule(
        n_genes,
        [8],
        3,
        dropout_input=0.1,
        dropout_hidden=0.1,
        **{"comparable": np.eye(2, dtype=bool), "descends": np.eye(2, dtype=bool)} | kwargs,
    )


def test_loss_is_the_weighted_sum_of_its_parts() -> None:
    net = module().eval()
    for w in (0.0, 0.3, 1.0):
        _, _, output = net(batch(), loss_kwargs={"triplet_weight": w, "mining": HARDEST})
        parts = output.extra_metrics
        expected = w * parts["triplet_loss"] + (1 - w) * parts["reconstruction_loss"]
        torch.testing.assert_close(output.loss.detach(), expected)
        assert parts["triplets_mined"] > 0


@pytest.mark.parametrize("labels", [[0] * 6, [-1] * 6, [0, 1, -1, -1, -1, -1]])
def test_batch_without_triplets_costs_nothing_and_still_has_a_gradient(labels: list[int]) -> None:
    net = module().train()
    _, _, output = net(batch(labels=labels), loss_kwargs={"triplet_weight": 1.0})
    assert output.loss.item() == 0.0
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    assert net.encoder_output.weight.grad is not None


def test_gradient_separates_labels() -> None:
    net = module().train()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    data = batch()
    for _ in range(60):
        _, _, output = net(data, loss_kwargs={"triplet_weight": 1.0, "mining": MiningOptions(0.5, "hardest")})
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    net.eval()
    z = net.inference(**net._get_inference_input(data))["z"].detach()
    distances = torch.cdist(z, z)
    assert distances[:3, :3].max() < distances[:3, 3:].min()


def test_empty_cells_do_no_harm() -> None:
    data = batch()
    kept = data["rows"] != 2
    for name in ("values", "rows", "genes"):
        data[name] = data[name][kept]
    net = module().train()
    _, _, output = net(data, inference_kwargs={"augmentation": Augmentation()})
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_target_is_the_undisturbed_lognormalised_profile() -> None:
    data = batch()
    net = module().train()
    disturbed = net.inference(**net._get_inference_input(data), augmentation=Augmentation(panels=1.0, panel_floor=0.3))
    dense = np.zeros((6, 5))
    dense[data["rows"], data["genes"]] = data["values"]
    expected = np.log1p(1e4 * dense / dense.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(disturbed["target"], expected, rtol=1e-5)


def test_many_genes_are_reconstructed_by_draws() -> None:
    n_genes = _GENES_PER_STEP + 500
    net = module(n_genes, measured=np.ones((2, n_genes), dtype=bool)).train()
    data = batch(n_genes=n_genes)
    inference, generative, output = net(data)
    assert inference["target"].shape == generative["profile"].shape == (6, _GENES_PER_STEP)
    net.eval()
    whole = net.inference(**net._get_inference_input(data))["target"]
    assert whole.shape == (6, n_genes)
    torch.testing.assert_close(inference["target"], whole[:, inference["genes"]])
    output.loss.backward()
    assert torch.isfinite(net.decoder_output.weight.grad).all()


def test_dropout_acts_in_training_only() -> None:
    data = batch()
    net = module()
    inputs = net._get_inference_input(data)
    net.eval()
    torch.testing.assert_close(net.inference(**inputs)["z"], net.inference(**inputs)["z"])
    net.train()
    assert not torch.equal(net.inference(**inputs)["z"], net.inference(**inputs)["z"])


def test_names_of_the_weights() -> None:
    names = set(module().encoder_weights())
    assert names == {
        *(f"layers.0.{n}" for n in ("weight", "bias", "bn.weight", "bn.bias", "bn.mean", "bn.var", "prelu")),
        "output.weight",
        "output.bias",
    }
    assert module().decoder_weights()["output.weight"].shape == (5, 8)


def test_nothing_to_sample_from() -> None:
    with pytest.raises(NotImplementedError):
        module().sample()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same_loss() -> None:
    net = module().eval()
    options = {"mining": HARDEST}
    _, _, here = net(batch(), loss_kwargs=options)
    _, _, there = net.cuda()({k: v.cuda() for k, v in batch().items()}, loss_kwargs=options)
    torch.testing.assert_close(here.loss, there.loss.cpu(), atol=1e-4, rtol=1e-4)


def test_classification_knows_what_is_below_what() -> None:
    # T cell above CD4 T cell; B cell beside them.
    below = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)
    net = module(comparable=below | below.T, descends=below)
    prototypes = torch.nn.functional.normalize(net.prototypes, dim=1)
    z = torch.nn.functional.normalize(torch.randn(4, 3), dim=1)
    scores = torch.exp(z @ prototypes.T / 0.1)
    found = net._classification(z, torch.tensor([0, 1, 2, -1]), 0.1)
    t_cell = (scores[0, 0] + scores[0, 1]) / scores[0].sum()
    cd4 = scores[1, 1] / (scores[1, 1] + scores[1, 2])  # its prototype of "T cell" is no rival
    b_cell = scores[2, 2] / scores[2].sum()
    torch.testing.assert_close(found, -torch.log(torch.stack([t_cell, cd4, b_cell])).mean())
    assert net._classification(z, torch.full((4,), -1), 0.1).item() == 0


def test_labels_that_are_used_side_by_side_are_rivals() -> None:
    below = np.array([[1, 1], [0, 1]], dtype=bool)
    apart = module(comparable=np.eye(2, dtype=bool), descends=below)
    assert not apart.descends[0, 1]


def test_the_same_gradients_every_time() -> None:
    rng = np.random.default_rng(0)
    labels, n = torch.as_tensor(rng.integers(0, 2, 512)), 512
    z = torch.nn.functional.normalize(torch.as_tensor(rng.normal(size=(n, 3)), dtype=torch.float32), dim=1)
    tensors = {"labels": labels[:, None], "batch": torch.as_tensor(rng.integers(0, 3, (n, 1)))}
    net, found = module(), []
    for _ in range(5):
        here = z.clone().requires_grad_()
        zeros = {"target": torch.zeros(n, 5), "z": here}
        net.loss(
            tensors, zeros, {"profile": torch.zeros(n, 5)}, triplet_weight=1.0, mining=MiningOptions(2.0)
        ).loss.backward()
        found.append(here.grad)
    assert all(torch.equal(found[0], other) for other in found[1:])
