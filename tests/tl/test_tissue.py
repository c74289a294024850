"""tissue= of scim.tl.annotate."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pyarrow.compute as pc
import pytest

import scim
from scim.tl._tissue import take_tissue, with_tissue


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


def test_the_tissues_of_the_reference_of_blood_are_found_with_their_remarks() -> None:
    bundled = scim.Reference.open("blood")
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


#: Labels that only the lung of the made reference has.
OF_LUNG = ["B cell", "dendritic cell"]


@pytest.fixture(scope="module")
def two_tissues(
    blood: anndata.AnnData, encoder: scim.Encoder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[scim.Reference, anndata.AnnData, np.ndarray]:
    """A reference of two tissues with labels of their own, new cells, and whether these are of labels of the lung."""
    cells = blood.copy()
    in_lung = cells.obs["cell_type"].isin(OF_LUNG).to_numpy()
    sides = np.where(np.arange(len(cells)) % 2, "left lung", "lung")
    cells.obs["tissue"] = np.where(in_lung, sides, "blood (PBMC)")
    even = np.random.default_rng(0).permutation(len(cells)) % 2 == 0
    path = tmp_path_factory.mktemp("two") / "two.scim"
    made = scim.Reference.build(path, cells[even], encoder, labels_key="cell_type", study_key="study")
    return made, blood[~even].copy(), in_lung[~even]


def repeated(adata: anndata.AnnData) -> anndata.AnnData:
    """Take each cell five times, so that there are enough cells."""
    return anndata.concat([adata] * 5, keys=list("abcde"), index_unique="-")


def guessed(adata: anndata.AnnData, reference: scim.Reference, **options: object) -> dict[str, object]:
    scim.tl.annotate(adata, reference, **options)
    record = adata.uns["scim"]["annotate"]
    return {key: value for key, value in record.items() if key.startswith("tissue_")}


def test_the_tissue_is_guessed(two_tissues: tuple[scim.Reference, anndata.AnnData, np.ndarray]) -> None:
    reference, new, in_lung = two_tissues
    found = guessed(repeated(new[~in_lung]), reference)
    assert found["tissue_guess"] == "blood" and 0.7 < found["tissue_guess_share"] <= 1
    # The left lung counts as lung.
    found = guessed(repeated(new[in_lung]), reference)
    assert found["tissue_guess"] == "lung" and found["tissue_guess_share"] > 0.7


def test_no_tissue_is_guessed(two_tissues: tuple[scim.Reference, anndata.AnnData, np.ndarray]) -> None:
    reference, new, in_lung = two_tissues
    many = repeated(new[~in_lung])
    assert not guessed(many[:199].copy(), reference)
    assert not guessed(many.copy(), reference, tissue="blood")
    assert not guessed(many.copy(), reference, where={"tissue": ["blood", "lung"]})
    assert not guessed(many.copy(), reference, exclude={"tissue": "lung"})  # one is left
    assert not guessed(many.copy(), reference, vote="ontology")
    assert guessed(many.copy(), reference, where={"study": ["first", "second"]})["tissue_guess"] == "blood"


def test_labels_do_not_depend_on_the_guess(two_tissues: tuple[scim.Reference, anndata.AnnData, np.ndarray]) -> None:
    reference, new, in_lung = two_tissues
    many, few = repeated(new[~in_lung]), new[~in_lung][:100].copy()
    assert guessed(many, reference)["tissue_guess"] == "blood"
    scim.tl.annotate(few, reference)
    assert list(many.obs["scim_label"][:100].astype(str)) == list(few.obs["scim_label"].astype(str))
    np.testing.assert_allclose(many.obs["scim_confidence"][:100], few.obs["scim_confidence"], atol=1e-6)


def test_a_factor_makes_labels_of_other_tissues_less_probable(
    two_tissues: tuple[scim.Reference, anndata.AnnData, np.ndarray],
) -> None:
    reference, _, _ = two_tissues
    terms = reference.terms
    names = terms.term_names[terms.label_term]
    codes = np.flatnonzero(~np.isin(names, OF_LUNG))
    by_label = np.full((300, len(names)), 0.1 / len(names), dtype=np.float32)
    by_label[np.arange(300), codes[np.arange(300) % len(codes)]] += 0.9
    sound = np.ones(300, dtype=bool)
    found, facts = take_tissue(by_label, sound, reference, None, factor=0.3)
    assert facts["tissue_guess"] == "blood"
    absent = np.isin(names, OF_LUNG)
    assert (found[:, absent] < 0.4 * by_label[:, absent]).all() and (found[:, ~absent] > by_label[:, ~absent]).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    same, facts = take_tissue(by_label[:199], sound[:199], reference, None, factor=0.3)
    assert same is not None and not facts
    np.testing.assert_array_equal(same, by_label[:199])


def test_a_reference_of_one_tissue_guesses_nothing(
    new: anndata.AnnData, blood: anndata.AnnData, encoder: scim.Encoder, tmp_path: Path
) -> None:
    many = repeated(new)
    for i, tissue in enumerate(("blood", None)):
        cells = blood.copy()
        del cells.obs["tissue"]
        if tissue:
            cells.obs["tissue"] = np.where(np.arange(len(cells)) % 2, "blood", "blood (PBMC)")
        made = scim.Reference.build(tmp_path / str(i), cells, encoder, labels_key="cell_type", study_key="study")
        assert not guessed(many.copy(), made)
