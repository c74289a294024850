"""The summary of hits against a plain count, one query and value at a time."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import scim
from scim.tl import _hit_tables as _hits


def plain_summary(reference: scim.Reference, hits: pd.DataFrame, searched: pd.DataFrame, query: str) -> pd.DataFrame:
    """Count without any trick."""
    rows = []
    mine = hits[hits["query"] == query]
    for column in ("label", "study", "sample", "tissue"):
        known = searched[column].dropna()
        drawn = mine[column].dropna()
        for value in sorted(known.unique()):
            n, size = int((drawn == value).sum()), int((known == value).sum())
            samples = searched["study"].astype(str) + searched["sample"].astype(str)
            of_hits = mine["study"].astype(str) + mine["sample"].astype(str)
            pairs, hit = set(zip(samples, searched[column], strict=True)), set(zip(of_hits, mine[column], strict=True))
            with_value, hit_with = (sum(v == value for _, v in some) for some in (pairs, hit))
            pvalue = stats.hypergeom.sf(hit_with - 1, len(pairs), with_value, len(hit)) if n else 1.0
            share = n / len(drawn)
            enrichment = share / (size / len(known))
            tested = np.nan if column == "sample" else pvalue if enrichment > 1 else 1.0
            rows.append((column, value, n, share, enrichment, tested))
    table = pd.DataFrame(rows, columns=["column", "value", "n_cells", "fraction", "enrichment", "pvalue"])
    tested = table["pvalue"].notna()
    table.loc[tested, "fdr"] = stats.false_discovery_control(table.loc[tested, "pvalue"], method="bh")
    return table[table["n_cells"] > 0].set_index(["column", "value"]).sort_index()


@pytest.mark.parametrize("block", [1, 4_000_000])
def test_summary_equals_a_plain_count(
    new: anndata.AnnData, reference: scim.Reference, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(_hits, "_BLOCK_VALUES", block)
    scim.tl.query(new, reference, groupby="cell_type", k=40, where={"sample": ["s1", "s2", "s3", "s7"]})
    summary, hits = new.uns["scim_query"]["summary"], scim.get.hits(new)
    searched = reference.obs[reference.obs["sample"].isin(["s1", "s2", "s3", "s7"])]
    assert list(summary["query"].cat.categories) == list(new.obs["cell_type"].cat.categories)
    for query in hits["query"].unique():
        found = summary[summary["query"] == query].astype({"column": str, "value": str})
        assert found["n_cells"].groupby(found["column"]).sum().eq(40).all()
        found = found.set_index(["column", "value"]).sort_index()
        wanted = plain_summary(reference, hits, searched, query)
        assert list(found.index) == list(wanted.index)
        for column in ("n_cells", "fraction", "enrichment", "pvalue", "fdr"):
            np.testing.assert_allclose(found[column], wanted[column], rtol=1e-9, atol=1e-12)


def test_summary_puts_the_most_frequent_first_and_finds_the_kind(
    new: anndata.AnnData, reference: scim.Reference
) -> None:
    scim.tl.query(new, reference, groupby="cell_type", k=30)
    summary = new.uns["scim_query"]["summary"]
    mine = summary[(summary["query"] == "B cell") & (summary["column"] == "label")]
    assert mine["value"].iloc[0] == "B cell"
    assert mine["n_cells"].is_monotonic_decreasing
    assert mine["enrichment"].iloc[0] > 3 and mine["pvalue"].iloc[0] < 0.01


def test_missing_metadata_and_numbers(
    blood: anndata.AnnData, encoder: scim.Encoder, new: anndata.AnnData, tmp_path: object
) -> None:
    some = blood.copy()
    some.obs["tissue"] = some.obs["tissue"].astype(object).where(np.arange(some.n_obs) % 3 > 0, None)
    some.obs["age"] = np.arange(some.n_obs, dtype=float)
    some.obs["rank"] = "clash"
    reference = scim.Reference.build(
        f"{tmp_path}/r",
        some,
        encoder,
        labels_key="cell_type",
        study_key="study",
        obs_columns=["tissue", "age", "rank", "n_counts"] if "n_counts" in some.obs else ["tissue", "age", "rank"],
    )
    scim.tl.query(new, reference, cells=[0, 1], k=60)
    hits, summary = scim.get.hits(new), new.uns["scim_query"]["summary"]
    assert hits["age"].dtype == float and (hits["reference_rank"] == "clash").all()
    assert hits["tissue"].isna().any() and hits["rank"].max() == 59
    tissue = summary[(summary["column"] == "tissue") & (summary["query"] == new.obs_names[0])]
    assert tissue["fraction"].sum() == pytest.approx(1) and tissue["n_cells"].sum() < 60
    new.write_h5ad(f"{tmp_path}/out.h5ad")
    back = scim.get.hits(anndata.read_h5ad(f"{tmp_path}/out.h5ad"))
    assert list(back["tissue"].isna()) == list(hits["tissue"].isna())


def test_codes_that_occur() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-1, 60, 200)
    wanted = np.unique(codes[codes >= 0])
    for n in (60, 10**9):  # by a table of all codes, and by sorting those there are
        different, places = _hits._used(codes, n)
        np.testing.assert_array_equal(different, wanted)
        np.testing.assert_array_equal(places >= 0, codes >= 0)
        np.testing.assert_array_equal(different[places[codes >= 0]], codes[codes >= 0])
    assert _hits._used(np.full(3, -1), 10**9)[1].tolist() == [-1, -1, -1]


def test_studies_that_hits_come_from_too_often() -> None:
    rows = [("a", 0.9, 0.45, 9), ("b", 0.9, 0.45, 10), ("c", 0.9, 0.55, 10), ("d", 0.8, 0.1, 10)]
    found = pd.DataFrame(rows, columns=["query", "fraction", "share", "n_cells"])
    table = found.assign(column="study", enrichment=found["fraction"] / found["share"])
    assert _hits.dominated_by_one_study(table) == ["b"]
