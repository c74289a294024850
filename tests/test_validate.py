"""The checks that every verb relies on."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scim import _validate as v


def small(n_cells: int = 3, n_genes: int = 2) -> ad.AnnData:
    return ad.AnnData(np.ones((n_cells, n_genes), dtype="float32"))


def test_did_you_mean_names_the_close_one_first() -> None:
    text = v.did_you_mean("celltype", ["cell_type", "study"])
    assert text == "Did you mean 'cell_type'? Available: 'cell_type', 'study'."


def test_did_you_mean_does_not_mind_capitals() -> None:
    assert v.did_you_mean("bcells", ["T cell", "B cell"]).startswith("Did you mean 'B cell'?")
    assert v.did_you_mean("blood", ["skin", "BLOOD"]).startswith("Did you mean 'BLOOD'?")


def test_did_you_mean_cuts_long_lists_and_says_so() -> None:
    text = v.did_you_mean("x", [f"gene{i}" for i in range(20)], limit=3)
    assert "'gene2' and 17 more" in text and "gene3" not in text


def test_did_you_mean_with_nothing_available() -> None:
    assert v.did_you_mean("x", []) == "Available: nothing."


@pytest.mark.parametrize("table", [{"cell_type": 1}, pd.DataFrame({"cell_type": [1]}), {None: 0, "cell_type": 1}])
def test_check_key_lists_what_there_is(table: object) -> None:
    v.check_key(table, "cell_type", argument="labels_key", where="adata.obs")
    with pytest.raises(KeyError, match=r"labels_key='celltype' is not in adata.obs. Did you mean 'cell_type'"):
        v.check_key(table, "celltype", argument="labels_key", where="adata.obs")


def test_check_option() -> None:
    v.check_option("exact", ["exact", "auto"], argument="backend")
    with pytest.raises(ValueError, match=r"backend='exakt' is not known. Did you mean 'exact'"):
        v.check_option("exakt", ["exact", "auto"], argument="backend")


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-3, ValueError), (2.5, TypeError), (True, TypeError)])
def test_check_positive_int_refuses(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="k must be"):
        v.check_positive_int(value, argument="k")


def test_check_positive_int_takes_numpy_integers() -> None:
    assert v.check_positive_int(np.int64(4), argument="k") == 4


@pytest.mark.parametrize(
    ("value", "error"), [(1.5, ValueError), (-0.1, ValueError), (float("nan"), ValueError), ("x", TypeError)]
)
def test_check_fraction_refuses(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="alpha must"):
        v.check_fraction(value, argument="alpha")


def test_check_fraction_keeps_the_ends() -> None:
    assert (v.check_fraction(0, argument="alpha"), v.check_fraction(1, argument="alpha")) == (0.0, 1.0)


def test_get_adata_returns_views_and_objects_as_they_are() -> None:
    adata = small()
    assert v.get_adata(adata) is adata
    view = adata[:2]
    assert v.get_adata(view) is view


@pytest.mark.parametrize("shape", [(0, 2), (3, 0)])
def test_get_adata_refuses_empty(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="nothing to work on"):
        v.get_adata(small(*shape))
    assert v.get_adata(small(*shape), allow_empty=True).shape == shape


def test_get_adata_refuses_other_objects_with_a_remedy() -> None:
    with pytest.raises(TypeError, match="got DataFrame. Read a file with anndata.read_h5ad"):
        v.get_adata(pd.DataFrame())
    with pytest.raises(ValueError, match="Leave mod out"):
        v.get_adata(small(), mod="rna")


def test_get_adata_picks_the_modality() -> None:
    mudata = pytest.importorskip("mudata")
    rna, atac = small(), small()
    atac.var_names = [f"peak{i}" for i in range(atac.n_vars)]
    with warnings.catch_warnings():  # MuData's own, about its defaults
        warnings.simplefilter("ignore")
        one, two = mudata.MuData({"rna": rna}), mudata.MuData({"rna": rna, "atac": atac})
    assert v.get_adata(one) is rna
    assert v.get_adata(two, mod="atac") is atac
    with pytest.raises(ValueError, match="several modalities needs mod="):
        v.get_adata(two)
    with pytest.raises(KeyError, match="Did you mean 'rna'"):
        v.get_adata(two, mod="rnaa")
