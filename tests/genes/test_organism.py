"""Genes of mouse: told apart from those of human, and mapped to them."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scim.genes import GeneSpace, name_candidates, organism_of, strip_genome, to_human
from scim.genes._names import gene_table
from scim.genes._organism import count_organisms, ortholog_table

#: Genes with one name in either organism, or with other names.
HUMAN = ["CD3E", "MS4A1", "NKG7", "CD8B", "LYZ", "HLA-DQA1", "MARCHF1", "RPL41", "GZMB", "FCGR3A", "CST3", "CD14"]
MOUSE = ["Cd3e", "Ms4a1", "Nkg7", "Cd8b1", "Lyz2", "H2-Aa", "Marchf1", "Rpl41", "Gzmb", "Fcgr4", "Cst3", "Cd14"]


def named(names: list[str], **columns: list[str]) -> ad.AnnData:
    return ad.AnnData(np.ones((2, len(names)), dtype="float32"), var=pd.DataFrame(columns, index=names))


def test_every_gene_of_the_table_is_an_approved_one() -> None:
    table, approved = ortholog_table(), set(gene_table().approved.values())
    assert len(table.by_symbol) > 19_000 and len(table.by_ensembl) >= len(table.by_symbol)
    assert set(table.by_symbol.values()) <= approved
    assert set(table.by_ensembl.values()) == set(table.by_symbol.values())
    one = pd.Series(table.by_symbol).value_counts()
    assert (one == 1).sum() > 17_000 and one.max() < 50


def test_mouse_genes_get_their_human_ones_by_symbol_and_id() -> None:
    assert to_human(MOUSE) == HUMAN
    assert to_human(["ENSMUSG00000032093", "ENSMUSG00000032093.11", "mm10___Cd3e", "H2.Aa"]) == [
        *["CD3E"] * 3,
        "HLA-DQA1",
    ]
    assert to_human(["Gm42418", "ENSMUSG99999999999", "CD3E", "", "nan"]) == [""] * 5
    # Paralogues of a gene without an orthologue are left out: they are genes of other cells.
    assert to_human(["Ly6a", "Ly6c2", "Mcpt8", "Ms4a4b"]) == [""] * 4


def test_an_older_symbol_counts_only_without_the_current_one() -> None:
    assert to_human(["Gnb2l1", "Atp5b"]) == ["RACK1", "ATP5F1B"]
    assert to_human(["Gnb2l1", "Rack1"]) == ["", "RACK1"]
    assert to_human(["GNB2L1"]) == [""]


@pytest.mark.parametrize(
    ("names", "organism"),
    [
        (HUMAN, "human"),
        (MOUSE, "mouse"),
        (["ENSMUSG00000032093.11", "ENSMUSG00000024673"], "mouse"),
        (["ENSG00000198851.10", "ENSG00000156738"], "human"),
        ([name.lower() for name in HUMAN], "human"),
        (["GRCh38_CD3E", "GRCh38_unheard-of"], "human"),
        (["mm10___Cd3e", "mm10___unheard-of"], "mouse"),
        # Capitals alone say nothing: none of these is the name of a gene.
        (["Abca", "Abcb", "Abcc"], "human"),
        (["0", "1"], "human"),
        (["unheard-of"], "human"),
        # A gene of the other organism, such as a transgene, does not change it.
        ([*MOUSE, "APP"], "mouse"),
        ([*HUMAN, "Cre", "Cd3e"], "human"),
    ],
)
def test_organisms_are_told_by_names(names: list[str], organism: str) -> None:
    assert organism_of(names) == organism
    assert organism_of(names, "mouse") == "mouse" and organism_of(names, "human") == "human"


@pytest.mark.parametrize(
    "names",
    [
        [*HUMAN, *MOUSE],
        [*[f"ENSG{i:011d}" for i in range(11)], *[f"ENSMUSG{i:011d}" for i in range(12)]],
        [*(f"GRCh38_{name}" for name in HUMAN), *(f"mm10___{name}" for name in MOUSE)],
        [*(f"HUMAN_{name}" for name in HUMAN), *(f"MOUSE_{name}" for name in MOUSE)],
        [*(f"GRCh38-2020-A_{name}" for name in HUMAN), *(f"GRCm39-2024-A_{name}" for name in MOUSE)],
    ],
)
def test_mixed_organisms_are_refused_with_counts(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"gene_ids are of two organisms: 1[12] of human, 1[12] of mouse"):
        organism_of(names, source="gene_ids")
    with pytest.raises(ValueError, match="two organisms"):
        GeneSpace(HUMAN).match_adata(named(names))
    # Genes of the other organism are left out if one is named.
    assert GeneSpace(HUMAN).match_adata(named(names), organism="mouse").organism == "mouse"


def test_names_of_both_organisms_count_for_neither() -> None:
    assert "F2" in ortholog_table().by_symbol
    counts = count_organisms(["F2", "F3"])
    assert (counts.human, counts.mouse, counts.is_mixed) == (0, 0, False)


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"organism='rat' is not known.*'auto', 'human', 'mouse'"):
        organism_of(MOUSE, "rat")


@pytest.mark.parametrize("name", ["CD3E", "hgnc", "MM_1", "mouse", "GRCh38_", "HUMANIN_1"])
def test_what_is_no_genome_stays(name: str) -> None:
    assert strip_genome(name) == name


def test_human_sets_are_human_and_mouse_sets_mouse(shared_data: Path) -> None:
    paths = sorted([*shared_data.glob("*.h5ad"), *shared_data.glob("*/*.h5ad")])
    found = {}
    for path in paths:
        var = ad.read_h5ad(path, backed="r").var
        found[path.stem] = {organism_of(names, source=source) for source, names, _ in name_candidates(var)}
    assert len(found) > 35
    assert found == {name: {"mouse" if name.startswith("mouse") else "human"} for name in found}


def test_real_mouse_genes_are_mostly_mapped(shared_data: Path) -> None:
    for path in sorted((shared_data / "mouse").glob("*.h5ad")):
        names = ad.read_h5ad(path, backed="r").var_names.tolist()
        human = to_human(names)
        assert np.mean([bool(symbol) for symbol in human]) > 0.68
        assert len(set(human)) > 0.9 * sum(map(bool, human))
