"""tissue= of scim.tl.annotate."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pyarrow.compute as pc
import pytest

import scim
from scim.tl._tissue import with_tissue


def test_tissue_is_a_filter(new: anndata.AnnData, reference: scim.Reference) -> None:
    one = scim.tl.annotate(new, reference, tissue="blood", copy=True)
    two = scim.tl.annotate(new, reference, where={"tissue": ["blood"]}, copy=True)
    all_cells = scim.tl.annotate(new, reference, copy=True)
    assert one.obs["scim_label"].equals(two.obs["scim_label"])
    assert not one.obs["scim_confidence"].equals(all_cells.obs["scim_confidence"])
    assert one.uns["scim"]["annotate"]["params"]["vote"] == "calibrated"
    both = scim.tl.annotate(new, reference, tissue=["Blood", "bone marrow"], exclude={"study": "first"}, copy=True)
    assert (both.obs["scim_label"] != "unassigned").any()


@pytest.mark.parametrize(
    ("tissue", "same_as"),
    [
        ("Blood", ["blood"]),
        ("UBERON:0000178", ["blood"]),
        ("PBMC", ["blood"]),
        ("bone element", ["bone marrow"]),
        ("hemolymphoid system", ["blood", "bone marrow"]),
        (["blood", "marrow"], ["blood", "bone marrow"]),
    ],
)
def test_any_name_of_a_tissue_will_do(reference: scim.Reference, tissue: str | list[str], same_as: list[str]) -> None:
    found = reference.allowed(where=with_tissue(None, tissue, reference))
    np.testing.assert_array_equal(found, reference.obs["tissue"].isin(same_as).to_numpy())


def test_the_blood_of_the_bundled_reference_is_found_with_its_remarks() -> None:
    bundled = scim.Reference.open(None)
    names = bundled.obs["tissue"].astype(str)
    assert set(names) > {"blood (PBMC)", "blood (PBMC, bead-sorted)"}
    for tissue, start in (("blood", "blood"), ("lung", "lung"), ("peripheral blood", "blood"), ("BALF", "lung")):
        found = bundled.allowed(where=with_tissue(None, tissue, bundled))
        np.testing.assert_array_equal(found, names.str.startswith(start).to_numpy())


def test_tissue_is_joined_with_other_filters(reference: scim.Reference) -> None:
    assert with_tissue(None, None, reference) is None
    where = {"study": "first"}
    assert with_tissue(where, "blood", reference) == {"study": "first", "tissue": ["blood"]}
    assert where == {"study": "first"}


@pytest.mark.parametrize(
    ("where", "tissue", "error", "text"),
    [
        (
            None,
            "lung",
            ValueError,
            r"^no cell has tissue='lung', or a part of it\. The .* has: 'blood', 'bone marrow'\.$",
        ),
        (
            None,
            "yellow bone marrow",
            ValueError,
            r"The reference has 'bone marrow', and .* is a part of it\. Use that\.$",
        ),
        (None, "bloood", ValueError, r"^no cell has tissue='bloood'\. Did you mean 'blood'\? Available: 'blood', "),
        (None, ["blood", "lung"], ValueError, "no cell has tissue='lung'"),
        (None, [], ValueError, "tissue is empty"),
        ({"tissue": "blood"}, "blood", ValueError, "both given"),
        (pc.field("study") == "first", "blood", TypeError, "cannot be joined with an expression"),
    ],
    ids=str,
)
def test_refuses(
    reference: scim.Reference, where: object, tissue: str | list[str], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        with_tissue(where, tissue, reference)


def test_an_unknown_tissue_stops_annotate_before_it_embeds(new: anndata.AnnData, reference: scim.Reference) -> None:
    with pytest.raises(ValueError, match="The reference has: 'blood', 'bone marrow'"):
        scim.tl.annotate(new, reference, tissue="lung")
    assert "X_scim" not in new.obsm and "scim" not in new.uns


def test_tissue_needs_a_column(
    new: anndata.AnnData, blood: anndata.AnnData, encoder: scim.Encoder, tmp_path: Path
) -> None:
    plain = scim.Reference.build(
        tmp_path / "r", blood, encoder, labels_key="cell_type", study_key="study", obs_columns=["sample"]
    )
    with pytest.raises(KeyError, match="has no column 'tissue'. Its columns are"):
        scim.tl.annotate(new, plain, tissue="blood")
