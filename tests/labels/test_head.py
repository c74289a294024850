"""A linear head on the embedding: probabilities, and conformal p-values from studies that were left out."""

from __future__ import annotations

import numpy as np
import pytest

from scim.labels._head import Head, Labelled, Trial, fit_head, join_similarity
from scim.labels._scale import Scale


def clouds(rng: np.random.Generator, n_studies: int = 4, spread: float = 0.35) -> tuple[np.ndarray, ...]:
    """Unit vectors of three labels, the last one rare, in studies that are shifted a little."""
    centres = np.eye(8)[:3]
    codes = np.tile(np.repeat([0, 1, 2], [200, 150, 30]), n_studies)
    studies = np.repeat(np.arange(n_studies), 380)
    shift = rng.normal(size=(n_studies, 8)) * 0.1
    vectors = centres[codes] + shift[studies] + rng.normal(size=(len(codes), 8)) * spread
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), codes, studies


@pytest.fixture(scope="module")
def head() -> Head:
    vectors, codes, studies = clouds(np.random.default_rng(0))
    made = fit_head(Labelled(vectors, codes, studies), n_labels=4, seed=0)
    assert made is not None
    return made


def test_probabilities_are_those_of_labels_it_knows(head: Head) -> None:
    vectors, codes, _ = clouds(np.random.default_rng(1))
    vectors[0] = 0
    found = head.probabilities(vectors, 4)
    assert found.dtype == np.float32 and found.shape == (len(vectors), 4)
    np.testing.assert_allclose(found[1:].sum(axis=1), 1, atol=1e-5)
    assert not found[0].any() and not found[:, 3].any()
    rare = codes == 2
    assert (found.argmax(axis=1) == codes)[rare].mean() > 0.8


def test_probabilities_are_calibrated_across_studies(head: Head) -> None:
    vectors, codes, _ = clouds(np.random.default_rng(2))
    found = head.probabilities(vectors, 4)
    # A new study is taken to be a little harder than a study that was left out.
    assert -0.15 < found.max(axis=1).mean() - (found.argmax(axis=1) == codes).mean() < 0.02


def test_shallow_cells_have_less_certain_labels() -> None:
    vectors, codes, studies = clouds(np.random.default_rng(0))
    harder, *_ = clouds(np.random.default_rng(1), spread=0.8)
    tested = [Trial(1000.0, Labelled(vectors, codes, studies)), Trial(10.0, Labelled(harder, codes, studies))]
    made = fit_head(Labelled(vectors, codes, studies), n_labels=4, seed=0, tested=tested)
    assert made is not None and made.alone.depths.tolist() == [10, 1000]
    assert made.alone.temperatures[0] > made.alone.temperatures[1]
    at = {d: made.probabilities(vectors, 4, np.full(len(vectors), d)) for d in (0.0, 10.0, 100.0, 1000.0, 1e6)}
    sure = {depth: found.max(axis=1).mean() for depth, found in at.items()}
    assert sure[0] == sure[10] < sure[100] < sure[1000] == sure[1e6]
    # Without counts, cells are taken to be deep enough. Depth changes no order.
    np.testing.assert_array_equal(made.probabilities(vectors, 4), at[1e6])
    np.testing.assert_array_equal(at[10.0].argmax(axis=1), at[1e6].argmax(axis=1))
    # Conformal scores are those of the deepest cells.
    deep = fit_head(Labelled(vectors, codes, studies), n_labels=4, seed=0, tested=tested[:1])
    assert deep is not None
    np.testing.assert_array_equal(made.alone.scores, deep.alone.scores)


def test_harder_cells_make_a_humbler_head(head: Head) -> None:
    vectors, codes, studies = clouds(np.random.default_rng(0))
    harder, *_ = clouds(np.random.default_rng(1), spread=0.6)
    harder[::50] = 0
    humble = fit_head(
        Labelled(vectors, codes, studies), n_labels=4, seed=0, tested=[Trial(100.0, Labelled(harder, codes, studies))]
    )
    assert humble is not None
    np.testing.assert_array_equal(humble.weights, head.weights)
    assert humble.alone.temperatures[-1] > head.alone.temperatures[-1]
    assert humble.alone.scores.mean() > head.alone.scores.mean() + 0.05
    assert len(humble.alone.scores) == len(harder[harder.any(axis=1)])
    # Of one study no others are known to be cells left out: it is tried on its own.
    only = studies == 0
    parts = vectors[only], codes[only], studies[only]
    alone, same = (
        fit_head(Labelled(*parts), n_labels=4, seed=0, tested=s)
        for s in ([Trial(9.0, Labelled(harder, codes, studies))], ())
    )
    assert alone is not None and same is not None and alone.kind == "within-study"
    np.testing.assert_array_equal(alone.alone.scores, same.alone.scores)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_sets_hold_the_label_as_often_as_promised(head: Head, alpha: float) -> None:
    held = []
    for seed in range(5):
        vectors, codes, _ = clouds(np.random.default_rng(10 + seed), n_studies=1)
        possible = head.alone.possible(head.probabilities(vectors, 4), alpha=alpha, classes=head.classes)
        held.append(possible[np.arange(len(codes)), codes])
    assert np.mean(held) > 1 - alpha - 0.02


@pytest.mark.parametrize("alpha", [0.0, 1 / 31, 0.05, 0.1, 0.25, 0.4])
def test_a_label_is_ruled_out_where_it_would_be_in_every_study(alpha: float) -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([np.linspace(0, 0.3, 30), np.linspace(0, 0.9, 30)]).astype(np.float32)
    made = Scale(
        depths=np.array([np.inf]),
        temperatures=np.ones(1),
        scores=scores,
        labels=np.zeros(60),
        groups=np.repeat([0, 1], 30),
    )
    by_label = np.concatenate([rng.random((200, 3)), 1 - rng.choice(scores, (50, 3))]).astype(np.float32)
    badness = 1 - by_label - 1e-6
    studies = [scores[:30], scores[30:]] if alpha >= 1 / 30 else [scores]
    own = np.max([(1 + (part >= badness[:, :1]).sum(axis=1)) / (1 + len(part)) for part in studies], axis=0)
    # A label without scores of its own is judged by those of all.
    other = (1 + (scores >= badness[:, 1:2]).sum(axis=1)) / 61
    found = made.possible(by_label, alpha=alpha, classes=np.array([0, 1]))
    np.testing.assert_array_equal(found[:, 0], own > alpha)
    np.testing.assert_array_equal(found[:, 1], other > alpha)
    assert not found[:, 2].any()  # the head does not know it


def test_one_study_is_said_to_be_one() -> None:
    vectors, codes, _ = clouds(np.random.default_rng(0), n_studies=1)
    made = fit_head(Labelled(vectors, codes, np.zeros(len(codes), dtype=int)), n_labels=3, seed=0)
    assert made is not None and made.kind == "within-study" and len(made.alone.scores) == len(codes)


def test_no_head_without_two_labels() -> None:
    vectors, codes, studies = clouds(np.random.default_rng(0))
    assert fit_head(Labelled(vectors, np.where(codes == 0, 0, -1), studies), n_labels=3, seed=0) is None


def test_a_label_of_one_study_has_no_scores() -> None:
    vectors, codes, studies = clouds(np.random.default_rng(0))
    only = (codes != 2) | (studies == 0)
    made = fit_head(Labelled(vectors[only], codes[only], studies[only]), n_labels=3, seed=0)
    assert made is not None and 2 in made.classes and 2 not in made.alone.labels


def test_similarity_of_expression_decides_where_vectors_do_not() -> None:
    vectors, codes, studies = clouds(np.random.default_rng(0), spread=0.8)
    rng = np.random.default_rng(1)
    similarity = (np.eye(4)[codes] * 0.3 + rng.normal(0, 0.05, (len(codes), 4))).astype(np.float32)
    cells = Labelled(vectors, codes, studies)
    made = fit_head(cells, n_labels=4, seed=0, tested=[Trial(100.0, cells, similarity)])
    assert made is not None and made.joint is not None
    alone, joint = made.probabilities(vectors, 4), made.probabilities(vectors, 4, similarity=similarity)
    assert (joint.argmax(axis=1) == codes).mean() > (alone.argmax(axis=1) == codes).mean() + 0.05
    assert made.joint.temperatures[0] < made.alone.temperatures[0]
    assert 0 < made.similarity_weight < 10  # few studies
    # Cells whose similarity is unknown have the probabilities of their vectors, on the scale of these.
    np.testing.assert_array_equal(made.probabilities(vectors, 4, similarity=None), alone)
    # A head that was never tried with similarities does not use them.
    deaf = fit_head(cells, n_labels=4, seed=0, tested=[Trial(100.0, cells)])
    assert deaf is not None and deaf.joint is None
    np.testing.assert_array_equal(deaf.probabilities(vectors, 4, similarity=similarity), deaf.probabilities(vectors, 4))
    back = Head.from_arrays(made.to_arrays())
    assert back is not None and back.joint is not None
    np.testing.assert_array_equal(back.joint.temperatures, made.joint.temperatures)
    assert back.similarity_weight == made.similarity_weight


def test_a_label_without_a_mean_is_judged_by_its_logit_only() -> None:
    logits = np.array([[2.0, 1.0, 0.0]], dtype=np.float32)
    similarity = np.array([[0.5, 0.5, np.nan]], dtype=np.float32)
    joined = join_similarity(logits, similarity, 20.0)
    np.testing.assert_allclose(joined - joined[:, :1], logits - logits[:, :1], atol=1e-5)
    assert np.isfinite(join_similarity(logits, np.full((1, 3), np.nan, dtype=np.float32), 20.0)).all()


def test_a_cell_of_a_broad_label_may_be_any_label_below_it() -> None:
    vectors, codes, studies = clouds(np.random.default_rng(0))
    # Label 3 is above label 1, and two studies use it instead.
    named = np.where((codes == 1) & (studies < 2), 3, codes)
    below = np.eye(4, dtype=bool)
    below[3, 1] = True
    cells = Labelled(vectors, named, studies)
    flat, nested = (fit_head(cells, n_labels=4, seed=0, below=b) for b in (None, below))
    assert flat is not None and nested is not None
    sure = {
        name: made.probabilities(vectors[codes == 1], 4)[:, 1].mean() for name, made in (("f", flat), ("n", nested))
    }
    assert sure["n"] > sure["f"] + 0.1
    back = Head.from_arrays(nested.to_arrays())
    assert back is not None
    np.testing.assert_array_equal(back.probabilities(vectors, 4), nested.probabilities(vectors, 4))


def test_goes_through_arrays(head: Head) -> None:
    back = Head.from_arrays(head.to_arrays())
    assert back is not None and back.kind == head.kind and back.joint is None
    assert back.alone.temperatures.tolist() == head.alone.temperatures.tolist()
    np.testing.assert_array_equal(back.alone.scores, head.alone.scores)
    assert Head.from_arrays({}) is None
