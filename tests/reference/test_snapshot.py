"""A snapshot is one version, and a reference swaps it whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

import scim
from scim import Reference
from scim.reference._snapshot import Snapshot


def more_cells(pbmc: AnnData, number: int) -> AnnData:
    cells = pbmc[:40].copy()
    cells.obs_names = f"more-{number}-" + cells.obs_names
    cells.obs["study"] = f"more-{number}"
    return cells


def test_a_snapshot_cannot_be_changed(folder: Path) -> None:
    snapshot = Snapshot.open(folder)
    with pytest.raises(FrozenInstanceError):
        snapshot.manifest = {}  # type: ignore[misc]


def test_a_snapshot_stays_as_it_was_when_cells_are_added(folder: Path, pbmc: AnnData) -> None:
    reference = Reference.open(folder)
    before = reference._now
    reference.add(more_cells(pbmc, 0))
    assert before.metadata.n_cells == 700 and reference._now.metadata.n_cells == 740
    assert before.newest().metadata.n_cells == 740
    assert reference._now.newest() is reference._now


def test_one_thread_searches_while_another_adds(folder: Path, pbmc: AnnData, vectors: np.ndarray) -> None:
    reference = Reference.open(folder)
    sizes, done = set(), []

    def search() -> None:
        while not done:
            hits = reference.search(vectors[:5], k=3, where={"study": "first"})
            assert (hits.indices >= 0).all() and hits.indices.max() < reference.n_rows
            info = reference.info()
            assert info["labelled_cells"] == info["cells"]  # counted from two parts of one version
            sizes.add(info["cells"])

    with ThreadPoolExecutor(1) as other:
        searching = other.submit(search)
        try:
            for number in range(3):
                reference.add(more_cells(pbmc, number))
        finally:
            done.append(True)
        searching.result(timeout=60)
    assert len(reference) == 820 and sizes <= {700, 740, 780, 820}


@pytest.mark.filterwarnings("ignore:k=1000 is more than")
@pytest.mark.parametrize("verb", ["annotate", "query"])
def test_a_verb_keeps_the_version_that_it_began_with(
    folder: Path, pbmc: AnnData, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, cells = Reference.open(folder), pbmc[:60].copy()
    options = {"vote": "ontology"} if verb == "annotate" else {"exclude": {"study": "third"}}
    expected = getattr(scim.tl, verb)(cells, reference, copy=True, **options)
    search, changed = Reference.search, []

    def change_then_search(self: Reference, *args: object, **given: object) -> object:
        if not changed:  # as another thread might, while the verb runs
            changed.append(True)
            reference.remove(where={"study": "second"})
            reference.compact()
        return search(self, *args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(Reference, "search", change_then_search)
    found = getattr(scim.tl, verb)(cells, reference, copy=True, **options)
    assert changed and reference.n_rows < 700
    if verb == "annotate":
        assert found.obs["scim_label"].equals(expected.obs["scim_label"])
    else:
        assert scim.get.hits(found).equals(scim.get.hits(expected))


def test_labels_of_a_version_cannot_be_written_to(folder: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        Reference.open(folder).label_codes[0] = 3
    assert Reference.open(folder).pinned().path == folder


def test_a_refresh_does_not_undo_a_change_of_another_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, newest = Reference.open(folder), Snapshot.newest
    with ThreadPoolExecutor(1) as other:
        begun = []

        def slow(self: Snapshot) -> Snapshot:
            found = newest(self)
            begun.append(other.submit(reference.remove, rows=np.arange(5)))
            return found

        monkeypatch.setattr(Snapshot, "newest", slow)
        reference.refresh()
        begun[0].result()
    assert len(reference) == 695
