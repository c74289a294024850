from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scim import CellOntology, Encoder, Reference
from scim.reference import ReferenceFolderError
from scim.reference.store import _manifest
from scim.reference.versions import _commit


@pytest.fixture
def more(pbmc: AnnData) -> AnnData:
    """Cells of a fourth study, two labels of which are new."""
    adata = pbmc[:60].copy()
    adata.obs_names = [f"new-{i}" for i in range(60)]
    adata.obs["study"] = "fourth"
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    adata.obs.loc[adata.obs_names[:10], "cell_type"] = "hepatocyte"
    adata.obs.loc[adata.obs_names[10:20], "cell_type"] = "T cell"
    return adata


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_added_cells_are_found(folder: Path, more: AnnData, vectors: np.ndarray) -> None:
    reference = Reference.open(folder)
    before = reference.terms.label_ids[reference.label_codes].tolist()
    reference.add(more)
    for opened in (reference, Reference.open(folder)):
        assert len(opened) == 760
        np.testing.assert_allclose(opened.vectors(np.arange(700, 760)), vectors[:60], atol=4e-5)
        assert opened.terms.label_ids[opened.label_codes].tolist()[:700] == before
        assert opened.obs["label"].astype(str).tolist()[700:720] == ["hepatocyte"] * 10 + ["T cell"] * 10
        assert opened.obs["study"].astype(str).tolist()[700:] == ["fourth"] * 60
        assert opened.info()["studies"] == ["first", "fourth", "second", "third"]
        hits = opened.search(vectors[:5], k=2)
        # The same cells of two segments: at distance 0 both, the older one first.
        assert hits.indices.tolist() == [[i, 700 + i] for i in range(5)]
        assert opened.search(vectors[:5], k=1, where={"study": "fourth"}).indices[:, 0].tolist() == list(
            range(700, 705)
        )
    t_cell = reference.terms.label_ids.tolist().index("CL:0000084")
    assert reference.terms.comparable[t_cell].sum() > 2
    assert sorted(p.name for p in folder.glob("calibration*")) == ["calibration-0002.npz"]
    reference.verify()


def test_background_takes_the_new_study_in(folder: Path, more: AnnData) -> None:
    reference = Reference.open(folder)
    reference.add(more)
    # Sixty of the cells now have a twin in another study.
    assert (reference.label_model.background() < 1e-6).sum() >= 120


def test_twice(folder: Path, more: AnnData, pbmc: AnnData) -> None:
    reference = Reference.open(folder)
    reference.add(more)
    reference.add({"fifth": pbmc[:10], "sixth": pbmc[10:20]})
    opened = Reference.open(folder)
    assert len(opened) == 780
    assert opened.obs["cell_id"].is_unique
    assert opened.obs["cell_id"].iloc[760] == f"fifth:{pbmc.obs_names[0]}"
    assert opened.obs["study"].astype(str).iloc[[760, 770]].tolist() == ["fifth", "sixth"]


def test_cells_without_labels_may_be_added(folder: Path, more: AnnData) -> None:
    more.obs["cell_type"] = None
    reference = Reference.open(folder)
    reference.add(more)
    assert (reference.label_codes[700:] == -1).all()
    assert (reference.label_codes[:700] >= 0).all()


def test_columns_that_differ(folder: Path, more: AnnData) -> None:
    more.obs["donor"] = "d9"
    more.obs["age"] = pd.array([30, None] * 30, dtype="Int64")
    more.obs["depth"] = np.nan
    reference = Reference.open(folder)
    reference.add(more, obs_columns=["depth", "donor", "age"])
    obs = Reference.open(folder).obs
    assert obs["depth"].dtype == float
    assert obs["depth"].isna().sum() == 60
    assert obs["age"].value_counts().to_dict() == {30: 30}
    assert reference.allowed(where={"age": 30}).sum() == 30
    assert obs["donor"].isna().sum() == 700
    assert obs["tissue"].isna().sum() == 60
    assert reference.search(reference.vectors([0]), k=3, where={"donor": "d9"}).indices.min() >= 700


@pytest.mark.parametrize(
    ("values", "holds", "remedy"),
    [("deep", "text", r"pd.to_numeric\(adata.obs\['depth'\]\)"), (True, "True and False", "pd.to_numeric")],
)
def test_a_column_of_numbers_does_not_become_text(
    folder: Path, more: AnnData, values: object, holds: str, remedy: str
) -> None:
    more.obs["depth"] = values
    reference, before = Reference.open(folder), files(folder)
    with pytest.raises(
        ValueError, match=f"obs.'depth'. of 'fourth cells' holds {holds}.*before holds numbers.*{remedy}"
    ):
        reference.add({"fourth cells": more}, obs_columns=["depth"])
    assert files(folder) == before
    assert reference.obs["depth"].dtype == float


def test_other_ontology(folder: Path, more: AnnData) -> None:
    other = CellOntology(["X:1"], ["hepatocyte"], [[]], version="mine")
    with pytest.raises(ValueError, match="version 'mine'|not with 'mine'"):
        Reference.open(folder).add(more, ontology=other)


def test_own_ontology_has_to_be_given_again(pbmc: AnnData, more: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    names = sorted({*pbmc.obs["cell_type"], *more.obs["cell_type"]})
    own = CellOntology([f"X:{i}" for i in range(len(names))], names, [[]] * len(names), version="mine")
    keys = {"labels_key": "cell_type", "study_key": "study"}
    reference = Reference.build(tmp_path / "r", pbmc, encoder, **keys, ontology=own)
    with pytest.raises(ValueError, match="built with version 'mine'.*ontology="):
        reference.add(more)
    reference.add(more, ontology=own)
    assert set(reference.info()["labels"]) == set(names)


def test_another_encoder(folder: Path, more: AnnData, other_encoder: Encoder, encoder: Encoder) -> None:
    reference = Reference.open(folder)
    with pytest.raises(ValueError, match=f"built with encoder {encoder.id}, not with {other_encoder.id}"):
        reference.add(more, encoder=other_encoder)
    reference.add(more, encoder=encoder)
    assert len(reference) == 760


def test_cells_that_are_there_already(folder: Path, pbmc: AnnData) -> None:
    before = files(folder)
    with pytest.raises(ValueError, match="20 cells are in the reference already, such as"):
        Reference.open(folder).add(pbmc[:20])
    assert files(folder) == before


def test_wrong_arguments(folder: Path, more: AnnData) -> None:
    reference, before = Reference.open(folder), files(folder)
    with pytest.raises(KeyError, match="labels_key='celltype'"):
        reference.add(more, labels_key="celltype")
    del more.obs["channel"]
    with pytest.raises(KeyError, match="obs_columns='channel'"):
        reference.add(more)
    assert files(folder) == before
    assert len(reference) == 700


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("when", ["reading", "calibrating", "committing"])
def test_interrupted(
    folder: Path, more: AnnData, monkeypatch: pytest.MonkeyPatch, when: str, error: BaseException
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    def parts() -> Iterator[AnnData]:
        yield more[:30].copy()
        if when == "reading":
            raise error
        yield more[30:].copy()

    if when == "calibrating":
        monkeypatch.setattr(_commit, "calibrate", fail)
    if when == "committing":
        monkeypatch.setattr(_manifest, "write_json", fail)
    reference, before = Reference.open(folder), files(folder)
    with pytest.raises((KeyboardInterrupt, OSError)):
        reference.add(parts())
    assert files(folder) == before
    assert [p.name for p in (folder / "segments").iterdir()] == ["0001"]
    monkeypatch.undo()
    assert len(reference) == 700
    reference.add(more)
    assert len(Reference.open(folder)) == 760


def test_remains_of_a_killed_add_do_no_harm(folder: Path, more: AnnData) -> None:
    (folder / "segments" / "0002").mkdir()
    (folder / "segments" / "0002" / "vectors.i16").write_bytes(b"half")
    reference = Reference.open(folder)
    assert len(reference) == 700
    reference.add(more)
    assert len(Reference.open(folder)) == 760


def test_two_writers(folder: Path, more: AnnData, pbmc: AnnData) -> None:
    one, two = Reference.open(folder), Reference.open(folder)
    one.add(more)
    with pytest.raises(ValueError, match="changed by another process.*Open it again"):
        two.add({"fifth": pbmc[:10]})
    assert len(Reference.open(folder)) == 760


def test_a_folder_that_was_deleted(folder: Path, more: AnnData) -> None:
    reference = Reference.open(folder)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(ValueError, match="is gone: it was deleted or moved"):
        reference.remove(rows=[0])


def test_read_only(folder: Path, more: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Reference.open(folder)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(PermissionError, match="read-only"):
        reference.add(more)


def test_damage_since_it_was_opened(folder: Path, more: AnnData) -> None:
    reference = Reference.open(folder)
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ReferenceFolderError, match="manifest.json"):
        reference.add(more)


def test_data_without_a_name_are_new_studies(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    parts = [pbmc[i : i + 50].copy() for i in (0, 50, 100)]
    reference = Reference.build(tmp_path / "r.scim", parts[:2], encoder, labels_key="cell_type")
    reference.add([parts[2]])
    assert reference.obs["study"].value_counts().to_dict() == {"study_1": 50, "study_2": 50, "study_3": 50}
    with pytest.raises(ValueError, match="50 cells are in the reference already"):
        reference.add(parts[0])
    with pytest.warns(UserWarning, match="one study"):
        single = Reference.build(tmp_path / "s.scim", parts[0], encoder, labels_key="cell_type")
    single.add(parts[1])
    assert single.obs["study"].unique().tolist() == ["study", "study_2"]
    assert single.label_model.calibration_kind == "cross-study"


def test_what_says_no_label_does_not_vote(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    pbmc.obs["l"] = pbmc.obs["cell_type"].astype(str)
    pbmc.obs.loc[pbmc.obs_names[:70], "l"] = ["NA", "Unknown", "unassigned", " ", "doublet", "?", "None"] * 10
    reference = Reference.build(
        tmp_path / "r.scim", pbmc, encoder, labels_key="l", study_key="channel", unlabeled_category="doublet"
    )
    assert reference.info()["labelled_cells"] == 630
    assert "doublet" not in reference.info()["labels"]
    more = pbmc[:10].copy()
    more.obs_names = [f"n{i}" for i in range(10)]
    more.obs["channel"] = "new"
    reference.add(more)
    assert reference.info()["labelled_cells"] == 630
