"""Folders of SCimilarity: one that its own code wrote, and broken ones."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData, read_h5ad

from scim import Encoder
from scim.encoder import EncoderFolderError
from scim.encoder._scimilarity import _canonical
from scim.genes import GeneSpace


@pytest.fixture
def fixture(shared_dir: Path) -> Path:
    """What SCimilarity 0.4.1 wrote, and computed with it."""
    return shared_dir / "peer_bench" / "fixture"


@pytest.fixture
def full(encoder: Encoder, weights: dict[str, np.ndarray], make_weights: Callable[..., dict]) -> Encoder:
    """An encoder with a decoder."""
    return Encoder(
        GeneSpace(sorted(map(str, encoder.genes.names))),  # as they are written
        weights,
        decoder=make_weights([16, 24, 32, len(encoder.genes)], seed=1),
        provenance={"labels": ["B cell", 'T "cell"'], "hyperparameters": {"lr": 0.1}},
    )


@pytest.fixture
def model(full: Encoder, tmp_path: Path) -> Path:
    full.to_scimilarity(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.filterwarnings("ignore:The data have 8")
def test_embeddings_are_those_of_scimilarity(fixture: Path) -> None:
    encoder = Encoder.from_scimilarity(fixture / "model")
    expected = np.load(fixture / "expected.npz")["embeddings"]
    cells = read_h5ad(fixture / "query_cells.h5ad")
    np.testing.assert_allclose(encoder.embed(cells), expected, atol=1e-6)
    assert encoder.provenance["hyperparameters"]["hidden_dim"] == [8, 24, 16]
    assert len(encoder.provenance["labels"]) == 10
    assert encoder.decoder is not None
    assert encoder.decoder["output.weight"].shape == (28_231, 8)


@pytest.mark.filterwarnings("ignore:The data have 8")
def test_aliases_find_more_genes(fixture: Path, tmp_path: Path) -> None:
    cells = read_h5ad(fixture / "query_cells.h5ad")
    exact = Encoder.from_scimilarity(fixture / "model")
    more = Encoder.from_scimilarity(fixture / "model", aliases=True)
    _, info = exact.embed(cells, return_info=True)
    _, info_more = more.embed(cells, return_info=True)
    assert info["genes"]["n_matched"] == 845 < info_more["genes"]["n_matched"]
    exact.save(tmp_path / "exact")
    assert not Encoder.load(tmp_path / "exact").genes.aliases
    more.save(tmp_path / "more")
    assert Encoder.load(tmp_path / "more").genes.aliases


def test_what_is_written_is_read_again(full: Encoder, model: Path) -> None:
    again = Encoder.from_scimilarity(model)
    assert again.id == full.id
    assert again.decoder is not None and full.decoder is not None
    for name, array in full.decoder.items():
        np.testing.assert_array_equal(again.decoder[name], array)
    assert again.provenance["labels"] == ["B cell", 'T "cell"']
    assert again.provenance["hyperparameters"] == {"lr": 0.1, "latent_dim": 16, "hidden_dim": [32, 24]}
    sizes = json.loads((model / "layer_sizes.json").read_text())
    assert sizes["network.0.1.weight"] == [32, len(full.genes)]
    assert sizes["network.2.weight"] == [16, 24]


def test_genes_are_written_sorted(full: Encoder, tmp_path: Path, pbmc: AnnData) -> None:
    """SCimilarity's align_dataset joins data and model by an outer join, which sorts the genes."""
    order = np.random.default_rng(0).permutation(len(full.genes))
    names = [str(full.genes.names[i]) for i in order]
    weights = {**full.weights, "layers.0.weight": full.weights["layers.0.weight"][:, order]}
    decoder = {**full.decoder, **{f"output.{n}": full.decoder[f"output.{n}"][order] for n in ("weight", "bias")}}
    Encoder(GeneSpace(names), weights, decoder=decoder).to_scimilarity(tmp_path / "model")
    written = (tmp_path / "model" / "gene_order.tsv").read_text().splitlines()
    assert written == sorted(names)
    again = Encoder.from_scimilarity(tmp_path / "model", aliases=True)
    np.testing.assert_allclose(again.embed(pbmc), full.embed(pbmc), atol=1e-6)
    place = [str(g) for g in full.genes.names].index(written[3])
    np.testing.assert_array_equal(again.decoder["output.weight"][3], full.decoder["output.weight"][place])


@pytest.mark.parametrize("key", ["network.0.7.weight", "network.3.0.foo", "network.00.1.weight", "network.1.3.bias"])
def test_weights_of_no_layer_are_refused(model: Path, key: str) -> None:
    saved = torch.load(model / "encoder.ckpt", weights_only=True)
    saved["state_dict"][key] = torch.ones(3)
    torch.save(saved, model / "encoder.ckpt")
    with pytest.raises(EncoderFolderError, match=r"encoder\.ckpt (holds|lacks)"):
        Encoder.from_scimilarity(model)


def test_parameters_are_tensors_too(model: Path, full: Encoder) -> None:
    saved = torch.load(model / "encoder.ckpt", weights_only=True)
    saved["state_dict"] = {
        k: torch.nn.Parameter(t) if t.is_floating_point() else t for k, t in saved["state_dict"].items()
    }
    torch.save(saved, model / "encoder.ckpt")
    assert Encoder.from_scimilarity(model).n_latent == full.n_latent


def test_no_decoder_no_file(encoder: Encoder, tmp_path: Path) -> None:
    encoder.to_scimilarity(tmp_path / "model")
    assert not (tmp_path / "model" / "decoder.ckpt").exists()
    assert Encoder.from_scimilarity(tmp_path / "model").decoder is None


def test_ensembl_ids_need_no_aliases(pbmc: AnnData, model: Path, full: Encoder) -> None:
    encoder = Encoder.from_scimilarity(model)
    from scim.genes._names import gene_table

    ids = {symbol: ensembl for ensembl, symbol in gene_table().by_ensembl.items()}
    named = pbmc[:, [name in ids for name in pbmc.var_names]].copy()
    named.var_names = [ids[name] for name in named.var_names]
    assert encoder.genes.match_adata(named).n_matched == named.n_vars > 600


def test_ten_layers_are_in_the_order_of_their_numbers(tmp_path: Path, make_weights: Callable[..., dict]) -> None:
    weights = make_weights([3, *range(4, 15), 2])
    state = {}
    for name, array in weights.items():
        layer, _, rest = name.removeprefix("layers.").partition(".")
        place = {"weight": "1.weight", "bias": "1.bias", "prelu": "3.weight"}
        place |= {f"bn.{a}": f"2.{b}" for a, b in zip(("weight", "bias"), ("weight", "bias"), strict=True)}
        place |= {"bn.mean": "2.running_mean", "bn.var": "2.running_var"}
        if name.startswith("output"):
            state[f"network.11.{rest or name.split('.')[1]}"] = array
        else:
            state[f"network.{layer}.{place[rest]}"] = array
    shuffled = {key: state[key] for key in sorted(state)}
    for name, array in _canonical(shuffled, tmp_path).items():
        np.testing.assert_array_equal(array, weights[name])
    with pytest.raises(ValueError, match="1 to 9 hidden layers"):
        Encoder(GeneSpace(["a", "b", "c"]), weights).to_scimilarity(tmp_path / "model")


def test_overwriting_is_asked_for(full: Encoder, model: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="overwrite=True"):
        full.to_scimilarity(model)
    full.to_scimilarity(model, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("notes")
    with pytest.raises(FileExistsError, match="not a SCimilarity model"):
        full.to_scimilarity(tmp_path / "mine", overwrite=True)


class Malicious:
    """Would make a file where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("name", ["encoder.ckpt", "decoder.ckpt"])
def test_a_malicious_pickle_runs_nothing(model: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "run"
    torch.save({"state_dict": {"network.0.weight": Malicious(target)}}, model / name)
    with pytest.raises(EncoderFolderError, match=f"{name} holds Python objects"):
        Encoder.from_scimilarity(model)
    (model / name).write_bytes(pickle.dumps(Malicious(target)))
    with pytest.raises(EncoderFolderError, match=name):
        Encoder.from_scimilarity(model)
    assert not target.exists()


@pytest.mark.parametrize("name", ["encoder.ckpt", "gene_order.tsv"])
def test_a_missing_file_is_named(model: Path, name: str) -> None:
    (model / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        Encoder.from_scimilarity(model)


@pytest.mark.parametrize("name", ["layer_sizes.json", "label_ints.csv", "hyperparameters.json", "metadata.json"])
def test_what_is_not_needed_may_be_missing(model: Path, full: Encoder, name: str) -> None:
    (model / name).unlink()
    assert Encoder.from_scimilarity(model).id == full.id


def test_damaged_files_are_named(model: Path, tmp_path: Path) -> None:
    def broken(name: str, content: bytes) -> Path:
        copy = tmp_path / "broken"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(model, copy)
        (copy / name).write_bytes(content)
        return copy

    whole = (model / "encoder.ckpt").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"no checkpoint"):
        with pytest.raises(EncoderFolderError, match=r"encoder\.ckpt"):
            Encoder.from_scimilarity(broken("encoder.ckpt", content))
    with pytest.raises(EncoderFolderError, match="do not fit together"):
        Encoder.from_scimilarity(broken("gene_order.tsv", b"CD3E\nMS4A1\n"))
    with pytest.raises(EncoderFolderError, match="do not fit together.*twice"):
        Encoder.from_scimilarity(broken("gene_order.tsv", b"CD3E\nCD3E\n"))
    with pytest.raises(EncoderFolderError, match="metadata.json is not JSON"):
        Encoder.from_scimilarity(broken("metadata.json", b"{"))
    with pytest.raises(EncoderFolderError, match="gene_order.tsv is not a list"):
        Encoder.from_scimilarity(broken("gene_order.tsv", b"\xff\xfe\xff"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s.pop("network.0.2.running_var"), "lacks 'running_var'"),
        (lambda s: s.pop("network.2.bias"), "lacks 'bias' of its last layer"),
        (lambda s: s.update({"lstm.weight": torch.ones(2)}), "'lstm.weight'"),
        (lambda s: s.clear(), "no weights"),
        (lambda s: s.update({"network.1.1.weight": torch.ones(24, 33)}), "do not fit together"),
    ],
)
def test_another_network_is_refused(model: Path, change: Callable[[dict], object], text: str) -> None:
    saved = torch.load(model / "encoder.ckpt", weights_only=True)
    change(saved["state_dict"])
    torch.save(saved, model / "encoder.ckpt")
    with pytest.raises(EncoderFolderError, match=text):
        Encoder.from_scimilarity(model)


def test_another_checkpoint_is_refused(model: Path) -> None:
    torch.save([torch.ones(2)], model / "encoder.ckpt")
    with pytest.raises(EncoderFolderError, match="no state_dict"):
        Encoder.from_scimilarity(model)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        Encoder.from_scimilarity(tmp_path / "nowhere")


def test_indexes_of_another_model_are_not_deleted(full: Encoder, model: Path) -> None:
    (model / "cellsearch").mkdir()
    with pytest.raises(FileExistsError, match="holds cellsearch, indexes of another model"):
        full.to_scimilarity(model, overwrite=True)
    assert (model / "cellsearch").is_dir() and (model / "encoder.ckpt").is_file()


def test_no_hidden_layer_cannot_be_written(tmp_path: Path) -> None:
    flat = Encoder(GeneSpace(["a", "b"]), {"output.weight": np.ones((2, 2)), "output.bias": np.zeros(2)})
    with pytest.raises(ValueError, match="reads 1 to 9 hidden layers"):
        flat.to_scimilarity(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_mark_before_the_first_gene_is_no_part_of_it(model: Path, full: Encoder) -> None:
    text = (model / "gene_order.tsv").read_bytes()
    (model / "gene_order.tsv").write_bytes(b"\xef\xbb\xbf" + text)
    assert Encoder.from_scimilarity(model).id == full.id
    (model / "gene_order.tsv").write_bytes(text.replace(b"\n", b"\tx\n", 1))
    with pytest.raises(EncoderFolderError, match=r"gene_order\.tsv has more than one column"):
        Encoder.from_scimilarity(model)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update({1: torch.ones(2)}),
        lambda s: s.update({"network.2.bias": torch.ones(16).to_sparse()}),
        lambda s: s.update({"network.2.bias": torch.ones(16, device="meta")}),
        lambda s: s.update({"network.2.bias": torch.ones(16, dtype=torch.complex64)}),
    ],
    ids=["number", "sparse", "meta", "complex"],
)
def test_odd_tensors_are_refused(model: Path, change: Callable[[dict], object]) -> None:
    saved = torch.load(model / "encoder.ckpt", weights_only=True)
    change(saved["state_dict"])
    torch.save(saved, model / "encoder.ckpt")
    with pytest.raises(EncoderFolderError, match=r"encoder\.ckpt"):
        Encoder.from_scimilarity(model)


def test_negative_variances_are_refused(model: Path) -> None:
    saved = torch.load(model / "encoder.ckpt", weights_only=True)
    saved["state_dict"]["network.0.2.running_var"] *= -1
    torch.save(saved, model / "encoder.ckpt")
    with pytest.raises(EncoderFolderError, match="negative values, but a variance cannot be negative"):
        Encoder.from_scimilarity(model)


def test_odd_tables_are_named(model: Path) -> None:
    (model / "label_ints.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(EncoderFolderError, match=r"label_ints\.csv"):
        Encoder.from_scimilarity(model)
    (model / "label_ints.csv").unlink()
    (model / "hyperparameters.json").write_text("[1, 2]")
    with pytest.raises(EncoderFolderError, match=r"hyperparameters\.json"):
        Encoder.from_scimilarity(model)
