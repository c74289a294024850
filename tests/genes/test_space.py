"""Gene spaces: what a gene may be called, and how columns are put in order."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from scim.genes import GeneSpace
from scim.genes._names import canonical, foreign_species, gene_table, id_kind_of, strip_version


def space() -> GeneSpace:
    return GeneSpace(["CD3E", "MS4A1", "MARCHF1", "C1orf112", "NKG7"])


def named(*names: str, **columns: list[str]) -> ad.AnnData:
    return ad.AnnData(np.ones((2, len(names)), dtype="float32"), var=pd.DataFrame(columns, index=list(names)))


@pytest.mark.parametrize(
    ("name", "expected", "how"),
    [
        ("CD3E", 0, "exact"),
        ("cd3e", 0, "case"),
        ("C1ORF112", 3, "case"),
        ("MARCH1", 2, "previous"),
        ("ENSG00000198851", 0, "ensembl"),
        ("ENSG00000198851.10", 0, "ensembl"),
    ],
)
def test_a_gene_is_found_by_any_of_its_names(name: str, expected: int, how: str) -> None:
    found = space().match([name])
    assert found.target.tolist() == [expected]
    assert found.via == {how: 1}


@pytest.mark.parametrize("name", ["Cd3e", "unheard-of", "", "17", "nan"])
def test_what_is_no_name_of_a_human_gene_is_not_found(name: str) -> None:
    assert space().match([name], organism="human").target.tolist() == [-1]


def test_ensembl_spaces_take_symbols_and_versions() -> None:
    ensembl = GeneSpace(["ENSG00000198851.3", "ENSG00000156738"])
    assert ensembl.id_kind == "ensembl" and "ENSG00000198851" in ensembl
    assert ensembl.match(["MS4A1", "ENSG00000198851.9", "CD3E"]).target.tolist() == [1, 0, 0]


def test_a_gene_under_two_names_is_one_gene() -> None:
    found = space().match(["MARCHF1", "MARCH1", "CD3E", "cd3e", "ENSG00000198851", "ENSG00000198851.3"])
    assert found.target.tolist() == [2, 2, 0, 0, 0, 0]
    assert found.via == {"exact": 2, "case": 1, "ensembl": 2, "previous": 1}


def test_an_alias_does_not_add_to_a_gene_that_has_a_column() -> None:
    table = gene_table()
    alias, gene = next(
        (a, g) for a, g in table.alias.items() if a not in table.approved and a not in table.previous and a.isalpha()
    )
    assert GeneSpace([gene]).match([alias]).target.tolist() == [0]
    assert GeneSpace([gene]).match([alias, gene]).target.tolist() == [-1, 0]


def test_columns_that_are_found_alike_are_one_gene_in_any_order() -> None:
    versions = ["ENSG00000182378.13", "ENSG00000182378.13_PAR_Y", "ENSG00000198851.1", "ENSG00000198851.2"]
    assert GeneSpace(["ENSG00000182378", "ENSG00000198851"]).match(versions).target.tolist() == [0, 0, 1, 1]
    assert space().match(versions).target.tolist() == [-1, -1, 0, 0]
    march = GeneSpace([gene for gene, symbol in gene_table().by_ensembl.items() if symbol == "MARCHF1"][:1])
    assert march.match(["MARCH1", "MARCHF1"]).target.tolist() == [0, 0]


def test_genes_that_the_space_lacks_are_not_counted_as_found() -> None:
    found = GeneSpace(["CD3E", "NKG7"]).match(["CD3E", "MARCH1", "ENSG00000156738", "MS4A1"])
    assert found.via == {"exact": 1} and found.n_matched == 1


def test_repeated_columns_are_summed_and_missing_genes_are_zero() -> None:
    found = space().match(["NKG7", "CD3E", "other", "CD3E"])
    aligned = found.align(np.array([[1, 2, 3, 4], [0, 0, 5, 0]]))
    assert aligned.dtype == np.float32 and aligned.shape == (2, 5)
    assert aligned.toarray().tolist() == [[6, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    assert (found.n_matched, found.fraction) == (2, 0.4)
    assert found.measured.tolist() == [True, False, False, False, True]


@pytest.mark.parametrize(
    "form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array, sparse.coo_matrix]
)
def test_every_form_of_x_is_aligned_alike_and_left_alone(form: object) -> None:
    rng = np.random.default_rng(0)
    names = [f"GENE{i}" for i in range(30)]
    mine = GeneSpace(list(rng.permutation(names)[:20]) + ["ELSEWHERE"])
    dense = rng.poisson(0.4, (7, 30)).astype(float)
    X = form(dense)  # type: ignore[operator]
    aligned = mine.match(names).align(X)
    expected = np.zeros((7, 21))
    for j, name in enumerate(mine.names):
        if name in names:
            expected[:, j] = dense[:, names.index(name)]
    np.testing.assert_array_equal(aligned.toarray(), expected)
    assert aligned.has_sorted_indices
    aligned.data[:] = -1
    assert (X if isinstance(X, np.ndarray) else X.toarray()).min() >= 0


#: Ids that no gene has, so that the table of human genes has no say.
IDS = [f"ENSG999999{i:05d}" for i in range(12)]


@settings(max_examples=100, deadline=None, database=None)
@given(
    mine=st.lists(st.sampled_from(IDS), min_size=1, unique=True),
    columns=st.lists(st.tuples(st.sampled_from([*IDS, "unheard-of"]), st.sampled_from(["", ".1", ".12"])), max_size=20),
    seed=st.integers(0, 2**32 - 1),
    logged=st.booleans(),
)
def test_align_sums_what_a_plain_dict_does(
    mine: list[str], columns: list[tuple[str, str]], seed: int, logged: bool
) -> None:
    counts = np.random.default_rng(seed).poisson(1.0, (3, len(columns))).astype(float)
    expected: dict[str, np.ndarray] = {}
    for gene in mine:
        found = [i for i, (name, _) in enumerate(columns) if name == gene]
        if found:
            expected[gene] = counts[:, found].sum(axis=1)
    gene_map = GeneSpace(mine).match([name + version for name, version in columns])
    aligned = gene_map.align(np.log1p(counts) if logged else counts, logged=logged).toarray()
    for column, gene in enumerate(mine):
        found = np.expm1(aligned[:, column]) if logged else aligned[:, column]
        np.testing.assert_allclose(found, expected.get(gene, np.zeros(3)), rtol=1e-5, atol=1e-6)
    assert gene_map.measured.tolist() == [gene in expected for gene in mine]


def test_align_refuses_other_columns() -> None:
    with pytest.raises(ValueError, match="X has 2 columns, but the genes of 1"):
        space().match(["CD3E"]).align(np.ones((1, 2)))


def test_var_columns_are_searched_and_can_be_forced() -> None:
    adata = named("a", "b", "c", symbol=["NKG7", "CD3E", "MS4A1"], note=["x", "y", "z"])
    found = space().match_adata(adata)
    assert (found.source, found.target.tolist()) == ("symbol", [4, 0, 1])
    assert space().match_adata(adata, gene_column="note").n_matched == 0
    with pytest.raises(KeyError, match="gene_column='symbl' is not in var. Did you mean 'symbol'"):
        space().match_adata(adata, gene_column="symbl")


def test_columns_of_few_values_are_no_names_of_genes() -> None:
    adata = named("CD3E", "A1BG", "A2M", "AAK1", chromosome=["Chr1", "Chr2", "Chr1", "Chr1"])
    wide = GeneSpace(["CD3E", *(f"GENE{i}" for i in range(50))])
    assert wide.match_adata(adata).n_matched == 1


def test_raw_genes_can_be_matched() -> None:
    adata = named("NKG7", "CD3E")
    adata.raw = adata.copy()
    small = adata[:, :1].copy()
    assert space().match_adata(small).n_matched == 1
    assert space().match_adata(small, use_raw=True).n_matched == 2


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["Abca", "Abcb", "Abcc"], "not human: symbols are written as in mouse, such as 'Abca'"),
        (["ENSRNOG00000016090", "ENSRNOG00000011911"], "not human: Ensembl ids are of another species"),
        (["Cd3e", "Ms4a1", "Nkg7", "RT1-Da", "RT1-Ba", "RT1-A2"], "not mouse: symbols are of rat, such as 'RT1-Da'"),
        (["0", "1", "2"], "var_names are numbers"),
    ],
)
def test_genes_of_another_kind_are_refused_with_what_was_seen(names: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        space().match_adata(named(*names))


def test_too_small_an_overlap_is_refused_with_both_figures() -> None:
    wide = GeneSpace([f"GENE{i}" for i in range(1000)])
    found = wide.match(["GENE1", "GENE2", "GENE3", "foo"])
    with pytest.raises(ValueError, match=r"3 of the encoder's 1,000 genes \(0.3%\), fewer than the 100 needed.*'foo'"):
        found.check()
    with pytest.warns(UserWarning, match=r"200 of the encoder's 1,000 genes \(20.0%\), less than the 25%"):
        wide.match([f"GENE{i}" for i in range(200)]).check()


def test_the_floor_is_no_more_than_half_of_a_small_space() -> None:
    space().match(["CD3E", "NKG7", "MS4A1"]).check()
    with pytest.raises(ValueError, match="fewer than the 3 needed"):
        space().match(["CD3E", "NKG7"]).check()


@pytest.mark.parametrize(("names", "words"), [([], "is empty"), (["A", "B", "A"], "holds 'A' twice")])
def test_a_space_has_distinct_genes(names: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GeneSpace(names)


def test_from_adata_merges_duplicates_and_refuses_numbers() -> None:
    duplicated = ad.AnnData(np.ones((1, 3)))
    duplicated.var_names = ["A", "B", "C"]
    duplicated.var["gene"] = ["CD3E", "NKG7", "CD3E"]
    assert GeneSpace.from_adata(duplicated, gene_column="gene").names.tolist() == ["CD3E", "NKG7"]
    with pytest.raises(ValueError, match="var_names are numbers"):
        GeneSpace.from_adata(named("0", "1"))


def test_save_load_equality_and_lookup(tmp_path: Path) -> None:
    mine = space()
    mine.save(tmp_path / "genes.txt")
    again = GeneSpace.load(tmp_path / "genes.txt")
    assert again == mine and hash(again) == hash(mine) and again.index("NKG7") == 4
    assert again != GeneSpace(["CD3E"]) and len(again) == 5
    with pytest.raises(KeyError, match="Did you mean 'NKG7'"):
        again.index("NKG8")
    with pytest.raises(ValueError, match="read-only"):
        again.names[0] = "other"
    assert "5 genes (symbol)" in repr(again)


def test_names_of_genes() -> None:
    assert canonical("CD3E") == ("CD3E", "exact")
    assert canonical("h2afz")[0] == "H2AZ1"
    assert canonical("HLA.DRA") == ("HLA-DRA", "alias")
    assert canonical("no such gene") == ("no such gene", "unknown")
    assert strip_version("AL627309.1") == "AL627309.1"
    assert id_kind_of(["ENSG00000198851", "ENSG00000156738.2", "CD3E"]) == "ensembl"
    assert foreign_species(["CD3E", "NKG7"]) is None


@pytest.mark.parametrize("name", ["Cd3e", "Ms4a1", "52"])
def test_names_of_mouse_genes_and_numbers_stay_as_they_are(name: str) -> None:
    assert canonical(name) == (name, "unknown")


def test_the_table_of_names_is_unambiguous() -> None:
    table = gene_table()
    assert len(table.approved) > 40_000 and len(table.by_ensembl) > 40_000
    assert not table.approved.keys() & (table.previous.keys() | table.alias.keys())
    assert not table.previous.keys() & table.alias.keys()
    assert table.previous["CD20"] == "MS4A1" and table.alias["CD56"] == "NCAM1"
    assert table.by_ensembl["ENSG00000156738"] == "MS4A1"
    assert canonical("Vault") == ("Vault", "exact")  # approved, though written like a gene of a mouse


def test_real_studies_meet_on_their_symbols(shared_data: Path) -> None:
    new = ad.read_h5ad(shared_data / "breast_komen_140.h5ad")
    old = ad.read_h5ad(shared_data / "pbmc3k_10x.h5ad")
    mine = GeneSpace.from_adata(new)
    by_symbol, by_id = mine.match_adata(old), mine.match_adata(old, gene_column="ensembl_id")
    exact = len(set(mine.names) & set(old.var_names))
    assert by_symbol.n_matched > exact + 500  # what only previous symbols and aliases find
    assert by_id.n_matched > 0.8 * by_symbol.n_matched
    both = (by_symbol.target >= 0) & (by_id.target >= 0)
    assert (by_symbol.target[both] == by_id.target[both]).mean() > 0.99


def test_a_space_of_mouse_genes_takes_no_human_ones() -> None:
    assert GeneSpace(["Cd3e", "Ms4a1"]).match(["CD3E", "ms4a1", "Cd3e"]).target.tolist() == [-1, -1, 0]


def test_mouse_genes_are_mapped_and_summed() -> None:
    mine = GeneSpace(["CD3E", "LYZ", "INS", "MARCH1"])
    found = mine.match(["Ins1", "Lyz2", "Gm42418", "Ins2", "Lyz1", "Marchf1", "CD3E"])
    assert found.target.tolist() == [2, 1, -1, 2, 1, 3, -1]
    assert (found.organism, found.via, found.n_matched) == ("mouse", {"ortholog": 5}, 3)
    assert found.mapped is not None and found.mapped.tolist() == [True, True, False, True, True, True, False]
    counts = np.array([[1, 2, 9, 3, 4, 5, 9]])
    assert found.align(counts).toarray().tolist() == [[0, 6, 4, 5]]
    logged = found.align(np.log1p(counts), logged=True).toarray()
    np.testing.assert_allclose(logged, np.log1p([[0, 6, 4, 5]]), rtol=1e-6)


def test_mouse_genes_are_mapped_onto_every_human_space() -> None:
    ids = ["ENSMUSG00000032093.11", "ENSMUSG00000024673"]
    for space_of in (["CD3E", "MS4A1"], ["ENSG00000198851", "ENSG00000156738"]):
        for aliases in (True, False):
            mine = GeneSpace(space_of, aliases=aliases)
            assert mine.match(["Cd3e", "Ms4a1"]).target.tolist() == [0, 1]
            assert mine.match(ids).target.tolist() == [0, 1]


def test_organism_can_be_named() -> None:
    assert space().match(["Cd3e"], organism="human").target.tolist() == [-1]
    assert space().match(["CD3E"], organism="mouse").target.tolist() == [-1]
    with pytest.raises(ValueError, match="not human: symbols are written as in mouse.*organism="):
        space().match_adata(named("Cd3e", "Ms4a1", "Nkg7"), organism="human")


def test_mouse_ids_in_a_column_are_found_and_those_of_rat_refused() -> None:
    ids = ["ENSMUSG00000032093", "ENSMUSG00000024673"]
    assert space().match_adata(named("a", "b", gene_ids=ids)).target.tolist() == [0, 1]
    with pytest.raises(ValueError, match="not mouse: Ensembl ids are of another species, such as 'ENSRNOG"):
        space().match_adata(named("Cd3e", "Ms4a1", gene_ids=["ENSRNOG00000016090", "ENSRNOG00000011911"]))


def test_a_space_of_mouse_genes_takes_mouse_genes_as_they_are() -> None:
    mine = GeneSpace(["Cd3e", "Ly6c2", "Gm42418"])
    found = mine.match(["Gm42418", "Cd3e", "Ly6c2"])
    assert (mine.organism, space().organism) == ("mouse", "human")
    assert (found.organism, found.target.tolist(), found.mapped) == ("mouse", [2, 0, 1], None)


def test_a_genome_in_front_of_genes_is_left_out() -> None:
    assert space().match(["GRCh38_NKG7", "hg19_CD3E", "GRCh38_ENSG00000156738"]).target.tolist() == [4, 0, 1]
    assert space().match(["mm10___Nkg7", "mm10___Cd3e"]).target.tolist() == [4, 0]
