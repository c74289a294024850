"""Plans, and the kinds of indexes that they choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scim.index import ExactIndex, FixedVectors, IndexPlan, build_index, index_files, open_index, to_fixed
from scim.index._open import KINDS


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"backend": "fais"}, ValueError, "backend='fais' is not known. Did you mean 'faiss'"),
        ({"recall": 98}, ValueError, "recall must lie from 0 to 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
    ],
)
def test_a_plan_checks_itself(options: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        IndexPlan(**options)


def test_a_plan_is_read_from_a_manifest() -> None:
    assert IndexPlan.of({"backend": "exact", "seed": 3, "recall": 0.9}) == IndexPlan("exact", 0.9, 3)
    assert IndexPlan.of({"backend": "auto", "seed": 0}).recall == 0.98


def test_as_many_cells_may_follow_as_are_searched_without_an_index() -> None:
    plan = IndexPlan(index_from_cells=100, beyond_index_share=0.5)
    assert (plan.most_beyond(50), plan.most_beyond(1_000)) == (100, 500)


@pytest.mark.parametrize(("codes_from", "kind"), [(1_000, "lists"), (900, "norm codes")])
def test_the_number_of_cells_chooses_the_kind(tmp_path: Path, codes_from: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    vectors = FixedVectors([to_fixed(rng.normal(size=(900, 8)).astype(np.float32))])
    plan = IndexPlan(recall=0.9, seed=4, index_from_cells=10, short_codes_from_cells=codes_from)
    facts = build_index(vectors, tmp_path / "i.safetensors", plan)
    assert facts["kind"] == kind and (facts["target"], facts["seed"], facts["n_cells"]) == (0.9, 4, 900)
    assert all((tmp_path / name).stat().st_size == file["bytes"] for name, file in index_files(facts).items())
    assert isinstance(open_index(vectors, plan, tmp_path, facts), KINDS[kind].open)  # type: ignore[arg-type]


def test_an_unknown_kind_is_not_searched(tmp_path: Path) -> None:
    vectors = FixedVectors([np.ones((3, 2), dtype=np.int16)])
    with pytest.warns(UserWarning, match=r"of an older scim.*reindex"):
        index = open_index(vectors, IndexPlan(), tmp_path, {"kind": "norms", "trials": {}})
    assert isinstance(index, ExactIndex)
