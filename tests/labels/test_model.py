"""A label model, matched to the genes of a query: on arrays alone, without a reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _made import random_encoder
from _simulated import N_GENES, N_LABELS, Simulation

from scim.encoder import Encoder, embed_with
from scim.genes import GeneSpace
from scim.index import ExactIndex, FixedVectors, to_fixed
from scim.labels import Calibration, LabelledLandmarks, LabelModel, calibrate
from scim.labels import _model as module
from scim.labels._novelty import Profiles

EVERY = np.ones(N_GENES, dtype=bool)
PANEL = np.arange(N_GENES) % 3 == 0
#: No label is below another.
FLAT = np.eye(N_LABELS, dtype=bool)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return random_encoder(GeneSpace([f"gene {i}" for i in range(N_GENES)]), n_latent=24)


def make_model(landmarks: LabelledLandmarks | None, encoder: Encoder, cells: LabelledLandmarks) -> LabelModel:
    """Model of a reference whose cells are ``cells``."""
    vectors = FixedVectors([to_fixed(cells.cells.embed(encoder, EVERY))])
    calibration = calibrate(vectors, cells.studies, cells.codes, n_labels=N_LABELS, seed=0)
    sizes = {"below": FLAT, "n_genes": N_GENES, "seed": 0}
    return LabelModel(calibration, ExactIndex(vectors), lambda: landmarks, lambda: encoder, **sizes)


@pytest.fixture(scope="module")
def marks() -> LabelledLandmarks:
    return Simulation(0).landmarks()


@pytest.fixture
def model(marks: LabelledLandmarks, encoder: Encoder) -> LabelModel:
    return make_model(marks, encoder, marks)


def head_of(calibration: Calibration):
    assert calibration.head is not None
    return calibration.head


@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_sets_hold_the_label_of_cells_of_a_panel(encoder: Encoder, alpha: float) -> None:
    held, sizes, unmatched = [], [], []
    codes = np.repeat(np.arange(N_LABELS), 50)
    for seed in range(6):
        simulation = Simulation(seed)
        marks = simulation.landmarks()
        model = make_model(marks, encoder, marks)
        query = embed_with(encoder, simulation.study(codes), PANEL)  # a study that the model does not know
        matched = model.matched(PANEL)
        assert matched.panel_matched
        for head, found in ((head_of(matched.calibration), held), (head_of(model.matched().calibration), unmatched)):
            possible = head.alone.possible(head.probabilities(query, N_LABELS), alpha=alpha, classes=head.classes)
            found.append(possible[np.arange(len(codes)), codes].mean())
            sizes.append(possible.sum(axis=1).mean())
    assert np.mean(held) >= 1 - alpha - 0.02
    assert np.mean(sizes[::2]) < 0.7 * N_LABELS
    assert np.mean(unmatched) < np.mean(held) - 0.1


def test_all_genes_need_no_landmarks(model: LabelModel, marks: LabelledLandmarks, encoder: Encoder) -> None:
    whole = model.matched()
    assert not whole.panel_matched and whole.panel is None and not len(whole.unjudged)
    assert model.matched(EVERY).calibration is whole.calibration
    few = EVERY.copy()
    few[np.argsort(np.bincount(marks.cells.genes, marks.cells.values, N_GENES))[:3]] = False  # genes of few counts
    assert model.matched(few).calibration is whole.calibration
    without = make_model(None, encoder, marks)
    assert not without.matched(PANEL).panel_matched
    assert without.profiles(PANEL) is None and not without.unseen_genes(PANEL, np.ones(N_GENES)).any()


def test_models_of_the_last_gene_sets_are_cached(model: LabelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    plain = module.calibrate
    monkeypatch.setattr(module, "calibrate", lambda *args, **options: made.append(1) or plain(*args, **options))
    monkeypatch.setattr(module, "_CACHED_MODELS", 2)
    panels = [np.arange(N_GENES) % 3 == i for i in range(3)]
    first = model.matched(panels[0])
    assert model.matched(panels[0].copy()) is first and len(made) == 1
    second = model.matched(panels[1])
    assert model.matched(panels[0]) is first and len(made) == 2
    model.matched(panels[2])  # the oldest model is dropped
    assert model.matched(panels[1]) is second and len(made) == 3
    assert model.matched(panels[0]) is not first and len(made) == 4


def test_profiles_of_the_last_genes_are_cached(model: LabelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    plain = Profiles.of.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Profiles, "of", classmethod(lambda cls, *args, **options: made.append(1) or plain(cls, *args, **options))
    )
    first = model.profiles(None)
    assert first is not None and model.profiles(EVERY) is first and len(made) == 1
    assert model.profiles(PANEL) is not first and len(made) == 2
    assert model.profiles(None) is not first and len(made) == 3


def test_profiles_within_cells_of_one_study_say_nothing(model: LabelModel, marks: LabelledLandmarks) -> None:
    assert model.profiles(None, within=marks.studies == 0) is None
    two, whole = model.profiles(None, within=marks.studies < 2), model.profiles(None)
    assert two is not None and whole is not None
    assert len(two.background(9)) == (marks.studies < 2).sum() < len(whole.background(9))


def test_heads_are_fitted_to_a_part_of_the_reference(model: LabelModel, marks: LabelledLandmarks) -> None:
    some = (marks.studies < 3) & (marks.codes < 3)
    part = model.matched(within=some)
    assert part.panel_matched and set(head_of(part.calibration).classes) == {0, 1, 2}
    assert model.matched(within=some) is part and model.matched().calibration is not part.calibration
    assert model.can_refit(some) and not model.can_refit(marks.codes == 0)


def test_novelty_is_by_the_distance_to_the_nearest_cell(model: LabelModel, encoder: Encoder) -> None:
    simulation = Simulation(0)
    simulation.landmarks()
    like = embed_with(encoder, simulation.study(np.repeat(np.arange(N_LABELS), 25)), EVERY)
    rng = np.random.default_rng(0)
    other = rng.normal(size=like.shape).astype(np.float32)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    other[0] = 0
    matched = model.matched()
    near, far = matched.distances(like), matched.distances(other)
    assert np.isnan(far[0])
    assert np.median(matched.calibration.pvalue(near)) > 0.05 > np.median(matched.calibration.pvalue(far[1:]))
    assert np.median(matched.calibration.novelty(near)) < 0.5 < np.median(matched.calibration.novelty(far[1:]))
    asked: list[float] = []

    def nearest(vectors: np.ndarray, recall: float) -> np.ndarray:
        asked.append(recall)
        return np.zeros(len(vectors), dtype=np.float32)

    assert not np.nansum(model.matched(nearest=nearest).distances(other)) and asked == [0.8]


def test_labels_of_a_panel_are_compared_in_its_genes(
    marks: LabelledLandmarks, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scim.labels._panels._MIN_GENES", 50)
    entries = np.repeat((marks.studies == 0) | (marks.codes < 3), np.diff(marks.cells.indptr))
    kept = entries & ~(np.repeat(marks.studies == 0, np.diff(marks.cells.indptr)) & ~PANEL[marks.cells.genes])
    cells = type(marks.cells)(
        marks.cells.rows, marks.cells.indptr, marks.cells.genes, np.where(kept, marks.cells.values, 0).astype("f4")
    )
    codes = np.where((marks.codes == 3) & (marks.studies > 0), -1, marks.codes)  # label 3 is in the panel study only
    panel = LabelledLandmarks(cells, codes, marks.studies)
    model = make_model(panel, encoder, panel)
    narrow = model.matched()
    assert narrow.panel is None and narrow.unjudged.tolist() == [3] and not narrow.panel_matched
    wide = model.matched(embeddable=EVERY)
    assert wide.panel is not None and not len(wide.unjudged) and not wide.panel_matched
    np.testing.assert_array_equal(wide.panel.genes, PANEL)
    assert wide.panel.codes.tolist() == [3]
    # Without values of some of these genes, the cells cannot be embedded again.
    assert model.matched(embeddable=np.arange(N_GENES) < 200).unjudged.tolist() == [3]
    # A head that was fitted when the reference was made is used.
    made = module.panel_head(panel, encoder, FLAT, seed=0)
    assert made is not None
    kept = LabelModel(
        replace(model.matched().calibration, panel=made),
        ExactIndex(FixedVectors([to_fixed(cells.embed(encoder, EVERY))])),
        lambda: panel,
        lambda: encoder,
        below=FLAT,
        n_genes=N_GENES,
        seed=0,
    )
    known = kept.matched(embeddable=EVERY).panel
    assert known is not None and known.head is made.head
    np.testing.assert_allclose(known.head.weights, wide.panel.head.weights, atol=1e-5)


def test_two_heads_share_the_probability() -> None:
    wide = np.array([[0.8, 0.2, 0.0], [0.5, 0.5, 0.0], [0, 0, 0]], dtype=np.float32)
    panel = np.array([[0.2, 0.1, 0.7], [0.9, 0.1, 0.0], [0, 0, 0]], dtype=np.float32)
    found = module._joined(wide, panel, np.array([2]))
    np.testing.assert_allclose(found[:2].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found[:2, 2], panel[:2, 2])  # only the panel has this label
    np.testing.assert_allclose(found[0, 0] / found[0, 1], np.sqrt(0.16 / 0.02), rtol=1e-4)
    np.testing.assert_allclose(found[1, :2], [0.75, 0.25], atol=1e-5)
    assert not found[2].any()
    # Without counts in the genes of the panel, the other head decides. A label that no head knows gets nothing.
    blind = module._joined(wide[:1], np.zeros((1, 3), dtype=np.float32), np.array([2]))
    np.testing.assert_array_equal(blind, wide[:1])
    unknown = module._joined(np.array([[1, 0, 0.0]]), np.array([[1, 0, 0.0]]), np.array([2]))
    assert unknown.tolist() == [[1, 0, 0]]
