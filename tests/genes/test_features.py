"""Which rows of var are genes, and names of genes with something around them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scim.genes import GeneSpace
from scim.genes._features import gene_rows, plain_names

GENES = ["CD3D", "MS4A1", "NKG7", "LYZ", "HLA-A", "GNLY", "CD8A", "CD4", "IL7R", "CCR7"]
IDS = ["ENSG00000167286", "ENSG00000156738", "ENSG00000105374", "ENSG00000090382", "ENSG00000206503"]


def kinds(column: str, *values: object) -> pd.DataFrame:
    return pd.DataFrame({column: list(values)}, index=[f"row{i}" for i in range(len(values))])


@pytest.mark.parametrize(
    ("column", "gene", "other"),
    [
        ("feature_types", "Gene Expression", "Antibody Capture"),
        ("feature_types", "Gene Expression", "CRISPR Guide Capture"),
        ("feature_types", "Gene Expression", "Multiplexing Capture"),
        ("feature_types", "Gene Expression", "Peaks"),
        ("feature_types", "Gene Expression", "Custom"),
        ("feature_type", "gene", "peak"),
        ("feature_biotype", "gene", "spike-in"),
        ("modality", "rna", "prot"),
        ("modality", "RNA", "ADT"),
        ("modality", "GEX", "ATAC"),
        ("type", "Gene Expression", "Antibody Capture"),
    ],
)
def test_only_genes_are_genes(column: str, gene: str, other: str) -> None:
    rows, said = gene_rows(kinds(column, gene, other, None, gene))
    assert rows is not None and rows.tolist() == [True, False, True, True]
    assert said == f"var[{column!r}]: 1 {other}"
    assert gene_rows(kinds(column, gene, other, None, gene).astype("category"))[0].tolist() == rows.tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("feature_types", ("Gene Expression", "Gene Expression")),
        ("feature_type", ("protein_coding", "lncRNA")),
        ("gene_biotype", ("protein_coding", "IG_C_gene")),
        ("genome", ("GRCh38", "mm10")),
        ("panel", ("antibody", "other")),
        ("highly_variable", (True, False)),
        ("n_cells", (3, 4)),
    ],
)
def test_columns_that_say_nothing_of_the_kind_keep_all_rows(column: str, values: tuple[object, ...]) -> None:
    assert gene_rows(kinds(column, *values)) == (None, "")


def test_an_antibody_never_adds_to_the_gene_of_its_name() -> None:
    var = pd.DataFrame({"feature_types": ["Gene Expression"] * 2 + ["Antibody Capture"]}, index=["CD4", "NKG7", "cd4"])
    adata = ad.AnnData(np.ones((2, 3), "f4"), var=var)
    found = GeneSpace(["CD4", "NKG7"]).match_adata(adata)
    assert found.target.tolist() == [0, 1, -1]
    with pytest.warns(UserWarning, match=r"no genes are left out \(var\['feature_types'\]: 1 Antibody Capture\)"):
        found.check()
    assert GeneSpace.from_adata(adata).names.tolist() == ["CD4", "NKG7"]
    with pytest.raises(ValueError, match="No column of X is a gene.*1 Antibody Capture.*the modality with the expr"):
        GeneSpace(["CD4"]).match_adata(adata[:, 2:])


@pytest.mark.parametrize(
    "form",
    [
        "rna:{}",
        "counts_{}",
        "gex:{}",
        '"{}"',
        "'{}'",
        "{} ",
        "\ufeff{}",
        "{}|915",
        "915|{}",
        "{}_x",
    ],
)
def test_names_are_read_without_what_surrounds_them(form: str) -> None:
    assert plain_names([form.format(name) for name in GENES])[0] == GENES


@pytest.mark.parametrize(
    "form", ["{id}_{name}", "{name}_{id}", "{id}.7_{name}", "{name}|{id}", "{name};{id}", "{name} ({id})"]
)
def test_an_ensembl_id_in_a_name_is_the_gene(form: str) -> None:
    names = [form.format(id=i, name=n) for i, n in zip(IDS, GENES, strict=False)]
    assert plain_names(names) == (IDS, (names[0], IDS[0]))


def test_a_genome_is_left_for_the_organism() -> None:
    names = [f"GRCh38_{name}" for name in GENES] + ["mm10___Cd3d", "mm10___Ms4a1"]
    assert plain_names(names) == (names, None)
    assert GeneSpace(GENES).match(names, organism="human").target.tolist() == [*range(10), -1, -1]


def test_genes_of_mouse_are_read_without_what_surrounds_them() -> None:
    mouse = ["Cd3d", "Ms4a1", "Nkg7", "Lyz2"]
    assert plain_names([f"rna:{name}" for name in mouse])[0] == mouse
    assert plain_names([f"{name}_ENSMUSG00000032093" for name in mouse])[0] == ["ENSMUSG00000032093"] * 4


def test_antibodies_of_a_modality_are_not_read_as_genes() -> None:
    names = [f"rna:{name}" for name in GENES] + ["prot:CD4", "prot:CD8A"]
    assert plain_names(names)[0] == [*GENES, "prot:CD4", "prot:CD8A"]


@pytest.mark.parametrize("names", [GENES, IDS, ["zzz_yyy", "xxx_www"], ["1", "2"], [], [""], ["HLA-A", "HLA-B"]])
def test_names_are_left_alone_if_there_is_no_reason(names: list[str]) -> None:
    assert plain_names(names) == (names, None)


def test_what_was_removed_is_said() -> None:
    adata = ad.AnnData(np.ones((2, len(GENES)), "f4"), var=pd.DataFrame(index=[f"GRCh38_{name}" for name in GENES]))
    found = GeneSpace(GENES).match_adata(adata)
    assert found.n_matched == len(GENES)
    with pytest.warns(UserWarning, match="without what surrounds them, 'GRCh38_CD3D' as 'CD3D'"):
        found.check()
