"""Landmarks: cells of a reference embedded anew with the genes that a query measured."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from scim import Encoder, Reference
from scim.labels._landmarks import Landmarks, _dispersion
from scim.labels._novelty import Profiles


def test_values_are_those_of_the_cells(reference: Reference, encoder: Encoder, pbmc: AnnData) -> None:
    landmarks = reference.landmarks
    assert landmarks is not None
    everything = np.ones(len(encoder.genes), dtype=bool)
    assert landmarks.expression(765).sum() == pytest.approx(1)
    counts = sparse.csr_matrix((landmarks.values, landmarks.genes, landmarks.indptr), shape=(len(landmarks), 765))
    np.testing.assert_allclose(landmarks.embed(encoder, everything), encoder(counts, kind="counts"), atol=1e-6)
    # The data are log1p values; landmarks keep three digits of what the logarithm was taken of.
    np.testing.assert_allclose(np.log1p(counts.toarray()), pbmc.X[landmarks.rows].toarray(), atol=2e-3)


def test_embedded_with_some_genes_they_are_like_a_query(reference: Reference, encoder: Encoder, pbmc: AnnData) -> None:
    landmarks = reference.landmarks
    assert landmarks is not None
    names = list(map(str, encoder.genes.names))[::2]
    query = pbmc[landmarks.rows][:, names].copy()
    measured = encoder.genes.match_adata(query).measured
    assert 0.1 < reference.label_model.missing(measured) < 0.9
    linear = query.copy()
    linear.X = np.expm1(query.X.toarray())
    expected = encoder(encoder.genes.match_adata(linear).align(linear.X), kind="counts")
    np.testing.assert_allclose(landmarks.embed(encoder, measured), expected, atol=1e-2)
    judge = reference.label_model.matched(measured)
    assert judge.panel_matched and reference.label_model.matched(measured) is judge
    assert not reference.label_model.matched().panel_matched


@pytest.mark.parametrize("unit", [1.0, 2.625], ids=["counts", "normalised"])
def test_thinned_they_keep_some_counts(unit: float) -> None:
    counts = sparse.random(200, 300, density=0.3, random_state=0, format="csr")
    counts.data = np.random.default_rng(0).poisson(4, len(counts.data)) + 1.0
    counts.data[counts.indptr[:-1]] = 1  # each cell has a gene with one count
    landmarks = Landmarks.of(counts * unit, np.arange(200))
    thinned = landmarks.thinned(seed=0)
    assert (thinned.values == np.round(thinned.values)).all() and (thinned.values <= counts.data).all()
    assert thinned.values.sum() / counts.data.sum() == pytest.approx(0.15, abs=0.01)
    np.testing.assert_array_equal(landmarks.thinned(seed=0).values, thinned.values)
    assert (landmarks.thinned(seed=1).values != thinned.values).any()
    measured = np.arange(300) < 200
    shallow = landmarks.thinned(seed=0, depth=50, measured=measured)
    before, after = landmarks.depths(measured), shallow.depths(measured)
    assert after[before > 100].mean() == pytest.approx(50, rel=0.1)
    np.testing.assert_array_equal(after[before < 50], before[before < 50])
    again = landmarks.counted().thinned(seed=0, depth=50, measured=measured)
    np.testing.assert_array_equal(again.depths(measured), after)
    # Normalised values are simulated as deep as their cells were sequenced, too, and not as deep as they add up to.
    drawn = landmarks.simulated(np.zeros(200, dtype=int), 300, seed=0)
    assert drawn.values.sum() == pytest.approx(counts.data.sum(), rel=0.02)


def test_simulated_ones_differ_as_much_as_cells_do() -> None:
    rng = np.random.default_rng(0)
    groups, phi = np.arange(600) % 2, np.where(np.arange(200) < 100, 2.0, 0.0)
    mean = rng.gamma(0.5, 4.0, (2, 200))[groups] * rng.gamma(4.0, 0.25, (600, 1))  # cells of many depths
    counts = rng.poisson(mean * np.where(phi > 0, rng.gamma(0.5, 2.0, (600, 200)), 1)).astype("f4")
    found = _dispersion(sparse.csr_matrix(counts), groups)
    assert np.median(found[:100]) == pytest.approx(2, abs=0.4) and np.median(found[100:]) < 0.1
    drawn = Landmarks.of(sparse.csr_matrix(counts), np.arange(600)).simulated(groups, 200, seed=0)

    def spread(values: np.ndarray) -> np.ndarray:
        shares = values / values.sum(axis=1, keepdims=True)
        means = np.stack([shares[groups == group].mean(axis=0) for group in (0, 1)])[groups]
        return ((shares - means) ** 2).sum(axis=1)

    # Poisson draws around the mean of five have half of it.
    assert np.median(spread(drawn.matrix(200).toarray())) == pytest.approx(np.median(spread(counts)), rel=0.2)


def test_landmarks_of_added_cells(folder: Path, pbmc: AnnData) -> None:
    reference = Reference.open(folder)
    before = len(reference.landmarks or ())
    more = pbmc[:50].copy()
    more.obs_names = [f"new {i}" for i in range(50)]
    more.obs["study"] = "new"
    reference.add(more)
    landmarks = reference.landmarks
    assert landmarks is not None and len(landmarks) == before + 50
    assert (landmarks.rows[before:] >= 700).all() and landmarks.indptr[-1] == len(landmarks.values)


def test_a_file_that_the_manifest_does_not_list_is_no_landmarks(
    folder: Path, pbmc: AnnData, encoder: Encoder, tmp_path: Path
) -> None:
    own = Reference.build(
        tmp_path / "own.scim", pbmc, encoder, labels_key="cell_type", study_key="study", landmarks="none"
    )
    name = "segments/0001/landmarks.npz"
    shutil.copy(folder / name, own.path / name)
    reopened = Reference.open(own.path)
    assert reopened.landmarks is None
    reopened.remove(rows=np.array([0]))  # which lists the files anew
    assert name not in json.loads((own.path / "manifest.json").read_text())["files"]
    assert Reference.open(own.path).landmarks is None


def test_simulated_ones_are_like_the_cells_and_are_none_of_them(
    pbmc: AnnData, encoder: Encoder, reference: Reference, tmp_path: Path
) -> None:
    options = {"labels_key": "cell_type", "study_key": "study"}
    made = Reference.build(tmp_path / "s.scim", pbmc, encoder, landmarks="simulated", **options)
    landmarks, cells = made.landmarks, reference.landmarks
    assert landmarks is not None and cells is not None
    np.testing.assert_array_equal(landmarks.rows, cells.rows)
    counted = replace(cells, values=cells.counts().astype(np.float32))  # the data are log1p values
    drawn, own = (x.matrix(765).toarray() for x in (landmarks, counted))
    assert (drawn == np.round(drawn)).all() and not (drawn == own).all(axis=1).any()
    np.testing.assert_allclose(drawn.sum(axis=1), own.sum(axis=1), rtol=0.4)
    for label in np.unique(made.label_codes):
        mine = made.label_codes[landmarks.rows] == label
        if mine.sum() > 50:
            assert np.corrcoef(drawn[mine].mean(axis=0), own[mine].mean(axis=0))[0, 1] > 0.95
    none = Reference.build(tmp_path / "n.scim", pbmc, encoder, landmarks="none", **options)
    assert none.landmarks is None and none.label_model.profiles(None) is None
    assert not none.label_model.matched(np.arange(765) < 300).panel_matched
    with pytest.raises(ValueError, match="landmarks"):
        Reference.build(tmp_path / "x.scim", pbmc, encoder, landmarks="some", **options)


def test_profiles_are_learned_once_for_a_panel(
    pbmc: AnnData, encoder: Encoder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = Reference.open(folder)
    learned = []
    learn = Profiles.of.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Profiles, "of", classmethod(lambda cls, *args, **options: learned.append(1) or learn(cls, *args, **options))
    )
    first = reference.label_model.profiles(None)
    assert first is not None and reference.label_model.profiles(None) is first
    few = np.arange(765) < 300
    other = reference.label_model.profiles(few)
    assert other is not None and len(learned) == 2 and other.measured.sum() == 300
    again = Reference.open(folder).label_model.profiles(None)
    assert again is not None
    np.testing.assert_array_equal(again.background(10), first.background(10))
    # Cells that are added change what there is to compare with.
    more = pbmc[:80].copy()
    more.obs_names = "more-" + more.obs_names
    more.obs["study"] = "fourth"
    reference.add(more)
    changed = reference.label_model.profiles(None)
    assert changed is not None and len(changed.background(10)) > len(first.background(10))
