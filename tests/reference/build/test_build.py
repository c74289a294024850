from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scim import CellOntology, Encoder, Reference
from scim.genes import GeneSpace
from scim.reference.build import _parts
from scim.reference.build._ids import distinct_ids
from scim.reference.store._tables import to_table

KEYS = {"labels_key": "cell_type", "study_key": "study"}


def parts(adata: AnnData) -> dict[str, AnnData]:
    return {name: adata[adata.obs["study"] == name].copy() for name in ("first", "second", "third")}


def test_layout_on_disk(folder: Path) -> None:
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == [
        "calibration.npz",
        "encoder/encoder.json",
        "encoder/encoder.safetensors",
        "encoder/genes.txt",
        "manifest.json",
        "segments/0001/cells.arrow",
        "segments/0001/landmarks.npz",
        "segments/0001/vectors.i16",
    ]
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest["files"]) == set(files) - {"manifest.json"}
    assert (manifest["version"], manifest["n_cells"], manifest["metric"]) == (1, 700, "cosine")
    assert manifest["ontology_version"] == CellOntology.bundled().version
    assert (folder / "segments/0001/vectors.i16").stat().st_size == 700 * 16 * 2


def test_what_went_in_comes_out(reference: Reference, pbmc: AnnData, vectors: np.ndarray) -> None:
    np.testing.assert_allclose(reference.vectors(), vectors, atol=4e-5)
    np.testing.assert_allclose(np.linalg.norm(reference.vectors(), axis=1), 1, atol=1e-6)
    obs = reference.obs
    assert list(obs) == ["cell_id", "label", "term_id", "study", "tissue", "channel", "depth"]
    assert obs["cell_id"].tolist() == pbmc.obs_names.tolist()
    assert obs["label"].astype(str).tolist() == pbmc.obs["cell_type"].astype(str).tolist()
    assert obs["term_id"].astype(str).tolist() == pbmc.obs["cell_type_ontology_term_id"].astype(str).tolist()
    assert obs["study"].astype(str).tolist() == pbmc.obs["study"].astype(str).tolist()
    np.testing.assert_allclose(obs["depth"], pbmc.obs["depth"])
    labels = reference.terms.label_ids[reference.label_codes]
    assert labels.tolist() == pbmc.obs["cell_type_ontology_term_id"].astype(str).tolist()
    assert len(reference) == reference.n_cells == 700


def test_studies_that_have_text_and_numbers_in_a_column(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    one, two = pbmc[:300].copy(), pbmc[300:].copy()
    one.obs["age"], two.obs["age"] = "thirty", 30
    one.obs["donor"], two.obs["donor"] = "D1", [2.0, np.nan] * 200
    build = partial(Reference.build, tmp_path / "r.scim", {"one": one, "two": two}, encoder, labels_key="cell_type")
    with pytest.raises(ValueError, match=r"obs\['age'\] of 'two' holds numbers.*before holds text.*astype\(str\)"):
        build(obs_columns=["age"])
    assert not list(tmp_path.iterdir())
    reference = build()  # names of donors are text, even where they are numbers
    assert reference.obs["donor"].value_counts().to_dict() == {"D1": 300, "2": 200}
    assert reference.allowed(where={"donor": 2}).sum() == reference.allowed(where={"donor": "2"}).sum() == 200


def test_same_content_from_any_source(reference: Reference, pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    pbmc.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    made = Reference.build(tmp_path / "a", backed, encoder, **KEYS)
    backed.file.close()
    np.testing.assert_array_equal(made.vectors(), reference.vectors())
    studies = parts(pbmc)
    one = Reference.build(tmp_path / "b", (part for part in studies.values()), encoder, **KEYS)
    two = Reference.build(tmp_path / "c", studies, encoder, labels_key="cell_type")
    three = Reference.build(tmp_path / "d", list(studies.values()), encoder, labels_key="cell_type")
    order = np.concatenate([np.flatnonzero(pbmc.obs["study"] == name) for name in studies])
    for made in (one, two, three):
        np.testing.assert_allclose(made.vectors(), reference.vectors(order), atol=4e-5)
        assert made.obs["cell_id"].tolist() == pbmc.obs_names[order].tolist()
    assert one.info()["studies"] == two.info()["studies"] == ["first", "second", "third"]
    assert three.info()["studies"] == ["study_1", "study_2", "study_3"]


def test_seed_makes_it_reproducible(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Reference.build(tmp_path / name, pbmc, encoder, **KEYS, seed=3)
    for file in ("segments/0001/vectors.i16", "segments/0001/cells.arrow", "calibration.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_missing_labels_are_stored_but_have_no_code(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    labels = pbmc.obs["cell_type"].astype(object)
    labels.iloc[:5] = [None, np.nan, "nan", "", "  "]
    labels.iloc[5] = f" {labels.iloc[5]} "
    pbmc.obs["cell_type"] = labels
    made = Reference.build(tmp_path / "r", pbmc, encoder, **KEYS)
    assert np.flatnonzero(made.label_codes < 0).tolist() == [0, 1, 2, 3, 4]
    assert made.obs["label"].isna().sum() == 5
    assert made.info()["labelled_cells"] == 695
    assert made.search(made.vectors([2]), k=1).indices[0, 0] == 2


def test_labels_by_id_name_and_own_words(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    labels = pbmc.obs["cell_type"].astype(str).replace({"B cell": "my strange cell"})
    labels.iloc[::2] = labels.iloc[::2].replace({"dendritic cell": "CL:0000451"})
    pbmc.obs["cell_type"] = labels
    with pytest.warns(UserWarning, match="1 of 10 labels are not in the ontology.*'my strange cell'"):
        made = Reference.build(tmp_path / "r", pbmc, encoder, **KEYS)
    # Two spellings of one term are one label, called by its name.
    assert "dendritic cell" in made.info()["labels"]
    assert "CL:0000451" not in made.info()["labels"]
    strange = made.terms.label_ids.tolist().index("my strange cell")
    assert made.terms.comparable[strange].sum() == 1


def test_labels_that_no_ontology_knows(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    pbmc.obs["cell_type"] = "cluster " + pbmc.obs["channel"].astype(str)
    made = Reference.build(tmp_path / "r", pbmc, encoder, **KEYS)
    assert made.info()["ontology"] == "flat"
    assert (made.terms.comparable == np.eye(8, dtype=bool)).all()


def test_one_study_warns(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="one study.*study_key"):
        made = Reference.build(tmp_path / "r", pbmc, encoder, labels_key="cell_type")
    assert made.label_model.calibration_kind == "within-study"


def test_default_columns_where_they_are(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    studies = parts(pbmc)
    studies["first"].obs["donor"] = 1
    studies["second"].obs["donor"] = "d2"
    made = Reference.build(tmp_path / "r", studies, encoder, labels_key="cell_type", study_key="study")
    assert list(made.obs) == ["cell_id", "label", "term_id", "study", "donor", "tissue"]
    assert made.metadata().groupby("study", observed=True)["donor"].unique().map(list).to_dict() == {
        "first": ["1"],
        "second": ["d2"],
        "third": [np.nan],
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (lambda n: np.arange(n) % 3, "int64"),
        (lambda n: np.where(np.arange(n) % 2, np.nan, 0.5), "float64"),
        (lambda n: np.arange(n) % 2 == 0, "bool"),
        (lambda n: pd.array([1, None] * (n // 2), dtype="Int64"), "float64"),
        (lambda n: pd.array([True, None] * (n // 2), dtype="boolean"), "boolean"),
        (lambda n: pd.Categorical(["a", None] * (n // 2)), "category"),
        (lambda n: pd.array(["ü", None] * (n // 2), dtype="string"), "category"),
        (lambda n: pd.to_datetime(["2026-01-01"] * n), "category"),
        (lambda n: [None] * n, "category"),
    ],
    ids=["whole", "real", "bool", "nullable", "maybe", "categorical", "string", "date", "empty"],
)
def test_columns_of_any_type(pbmc: AnnData, encoder: Encoder, tmp_path: Path, values, expected: str) -> None:
    adata = pbmc[::11][:60].copy()
    adata.obs["column"] = pd.Series(values(60), index=adata.obs_names)
    made = Reference.build(tmp_path / "r", adata, encoder, **KEYS, obs_columns=["column"])
    kept = Reference.open(tmp_path / "r").obs["column"]
    assert str(kept.dtype) == expected
    assert kept.isna().tolist() == adata.obs["column"].isna().tolist()
    assert made.obs["column"].equals(kept)
    made.to_anndata().write_h5ad(tmp_path / "cells.h5ad")


def test_cell_ids_of_two_studies_alike(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    studies = {name: part[:20].copy() for name, part in parts(pbmc).items()}
    for part in studies.values():
        part.obs_names = [f"AAAC{i}" for i in range(20)]
    studies["third"].obs_names = [f"GGGC{i}" for i in range(20)]
    made = Reference.build(tmp_path / "r", studies, encoder, labels_key="cell_type")
    ids = made.obs["cell_id"]
    assert ids.is_unique
    assert ids[[0, 20, 40]].tolist() == ["first:AAAC0", "second:AAAC0", "GGGC0"]


def test_cell_ids_within_a_study_alike() -> None:
    table = to_table(pd.DataFrame({"cell_id": ["a", "b", "a", "a"], "study": ["s", "s", "s", "t"]}))
    for size in (1, 3, 4):
        tables = [table.slice(start, size) for start in range(0, 4, size)]
        ids = [name for part in distinct_ids(lambda tables=tables: tables) for name in part.to_pylist()]
        assert ids == ["s:a", "b", "s:a#2", "t:a"]


def test_cells_without_counts_are_kept_but_never_found(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    X = pbmc.X.tolil()
    X[[0, 400]] = 0
    pbmc.X = X.tocsr()
    made = Reference.build(tmp_path / "r", pbmc, encoder, **KEYS)
    assert not made.vectors([0, 400]).any()
    assert np.isfinite(made.label_model.background()).all()
    with pytest.warns(UserWarning, match="k=700 is more than the 698 cells"):
        hits = made.search(made.vectors([0, 1]), k=700)
    assert (hits.indices[0] == -1).all()
    assert np.isinf(hits.distances[0]).all()
    assert sorted(hits.indices[1, :698]) == sorted(set(range(700)) - {0, 400})


def test_mudata_with_labels_of_the_whole(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    mudata = pytest.importorskip("mudata")
    protein = anndata.AnnData(np.ones((700, 3), dtype=np.float32), obs=pbmc.obs[[]])
    expected = pbmc.obs["cell_type"].astype(str).tolist()
    both = mudata.MuData({"rna": pbmc[:, :], "adt": protein})
    both.obs["annotation"] = pbmc.obs["cell_type"]
    made = Reference.build(tmp_path / "r", both, encoder, labels_key="annotation", study_key="study", mod="rna")
    assert made.obs["label"].astype(str).tolist() == expected


def test_path_with_spaces_and_other_scripts(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "meine Daten 細胞" / "Blut Zürich.scim"
    Reference.build(path, pbmc, encoder, **KEYS, obs_columns=["tissue"])
    opened = Reference.open(str(path))
    assert opened.search(opened.vectors([3]), k=1, where={"tissue": "blood"}).indices.shape == (1, 1)
    assert [p.name for p in path.parent.iterdir()] == ["Blut Zürich.scim"]


# ---- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"labels_key": "celltype"}, KeyError, "labels_key='celltype'.*Did you mean 'cell_type'"),
        ({"study_key": "studdy"}, KeyError, "study_key='studdy'.*Did you mean 'study'"),
        ({"obs_columns": ["tisue"]}, KeyError, "obs_columns='tisue'.*Did you mean 'tissue'"),
        ({"obs_columns": "tissue"}, TypeError, "list of columns"),
        ({"backend": "fais"}, ValueError, "backend='fais'"),
        ({"layer": "counts"}, KeyError, "layer='counts'"),
        ({"seed": -1}, ValueError, "seed"),
        ({"encoder": "blood.encoder"}, TypeError, "encoder must be a scim.Encoder"),
        ({"adata": "cells.h5ad"}, FileNotFoundError, "no file cells.h5ad"),
        ({"adata": 3}, TypeError, "read_h5ad"),
        ({"adata": []}, ValueError, "no cells"),
    ],
)
def test_wrong_arguments_leave_nothing(
    pbmc: AnnData, encoder: Encoder, tmp_path: Path, options: dict, error: type[Exception], text: str
) -> None:
    given = {"adata": pbmc, "encoder": encoder, **KEYS, **options}
    with pytest.raises(error, match=text):
        Reference.build(tmp_path / "sub" / "r", **given)
    assert not any(tmp_path.iterdir())


def test_data_that_cannot_be_embedded_leave_nothing(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    good, scaled, rat, few = pbmc[:100].copy(), pbmc[100:].copy(), pbmc[100:].copy(), pbmc[100:, :3].copy()
    scaled.X = scaled.X.toarray() - 1
    rat.var_names = [f"ENSRNOG{i:011d}" for i in range(rat.n_vars)]
    for bad, text in ((scaled, "negative"), (rat, "not human"), (few, "3 of the encoder's"), (good[:0], "0 cells")):
        with pytest.raises(ValueError, match=text):
            Reference.build(tmp_path / "r", [good, bad], encoder, **KEYS)
        assert not any(tmp_path.iterdir())


def test_encoder_of_other_genes(pbmc: AnnData, tmp_path: Path) -> None:
    genes = GeneSpace([f"ENSG{i:011d}" for i in range(1, 601)])
    other = Encoder(genes, {"output.weight": np.ones((4, 600)), "output.bias": np.zeros(4)})
    with pytest.raises(ValueError, match="of the encoder's 600 genes"):
        Reference.build(tmp_path / "r", pbmc, other, **KEYS)
    assert not any(tmp_path.iterdir())


def test_no_label_and_missing_study(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    pbmc.obs["none"] = np.nan
    with pytest.raises(ValueError, match="No cell has a label in obs\\['none'\\]"):
        Reference.build(tmp_path / "r", pbmc, encoder, labels_key="none", study_key="study")
    pbmc.obs["part"] = pbmc.obs["study"].astype(object).where(np.arange(700) > 2)
    with pytest.raises(ValueError, match="3 cells have no study"):
        Reference.build(tmp_path / "r", pbmc, encoder, labels_key="cell_type", study_key="part")
    assert not any(tmp_path.iterdir())


def test_reserved_column(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    pbmc.obs["label"] = "x"
    with pytest.raises(ValueError, match="'label', a column that every reference has"):
        Reference.build(tmp_path / "r", pbmc, encoder, **KEYS, obs_columns=["label"])
    # The labels themselves may be called so.
    pbmc.obs["label"] = pbmc.obs["cell_type"]
    made = Reference.build(
        tmp_path / "r", pbmc, encoder, labels_key="label", study_key="study", obs_columns=["label", "study", "tissue"]
    )
    assert list(made.obs) == ["cell_id", "label", "term_id", "study", "tissue"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_ctrl_c_leaves_things_as_they_were(folder: Path, pbmc: AnnData, encoder: Encoder, overwrite: bool) -> None:
    def interrupted() -> Iterator[AnnData]:
        yield pbmc[:300].copy()
        raise KeyboardInterrupt

    target = folder if overwrite else folder.parent / "new.scim"
    with pytest.raises(KeyboardInterrupt):
        Reference.build(target, interrupted(), encoder, **KEYS, overwrite=overwrite)
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    assert len(Reference.open(folder)) == 700


def test_existing_target(folder: Path, pbmc: AnnData, encoder: Encoder) -> None:
    with pytest.raises(FileExistsError, match="overwrite=True"):
        Reference.build(folder, pbmc[:100], encoder, **KEYS)
    assert len(Reference.open(folder)) == 700
    old = Reference.open(folder)
    made = Reference.build(folder, pbmc[::7], encoder, **KEYS, overwrite=True)
    assert len(made) == len(Reference.open(folder)) == 100
    # Who had the old one open still sees it.
    assert old.search(old.vectors([650]), k=1).indices[0, 0] == 650
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_other_folders_are_never_replaced(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "raw.fastq").write_text("ACGT")
    with pytest.raises(FileExistsError, match="is not a reference"):
        Reference.build(tmp_path / "data", pbmc, encoder, **KEYS, overwrite=True)
    assert (tmp_path / "data" / "raw.fastq").read_text() == "ACGT"


def test_read_only_target(pbmc: AnnData, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="not a folder"):
        Reference.build(tmp_path / "file" / "r", pbmc, encoder, **KEYS)
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr(_parts, "embed_value_blocks", lambda *_, **__: pytest.fail("worked before it looked"))
    with pytest.raises(PermissionError, match="read-only"):
        Reference.build(tmp_path / "r", pbmc, encoder, **KEYS)


def test_cells_without_any_count_make_no_reference(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    pbmc.X = pbmc.X * 0
    with pytest.raises(ValueError, match="No cell has a count in any gene of the encoder"):
        Reference.build(tmp_path / "none.scim", pbmc, encoder, labels_key="cell_type", study_key="study")
    assert not list(tmp_path.iterdir())


def test_some_cells_without_any_count_are_warned_of(
    folder: Path, pbmc: AnnData, encoder: Encoder, tmp_path: Path
) -> None:
    some = pbmc[::14].copy()
    kept = np.arange(50) >= 20
    some.X = sparse.csr_matrix(some.X.multiply(kept[:, None]))
    options = {"labels_key": "cell_type", "study_key": "study"}
    with pytest.warns(UserWarning, match="20 of 50 cells have no count in any gene of the encoder"):
        Reference.build(tmp_path / "some.scim", some, encoder, **options)
    some.obs_names, some.obs["study"] = [f"new {i}" for i in range(50)], "new"
    reference = Reference.open(folder)
    with pytest.warns(UserWarning, match="20 of 50 cells have no count"):
        reference.add(some)
    none = some[:20].copy()
    none.obs_names, none.obs["study"] = [f"none {i}" for i in range(20)], "none"
    with pytest.raises(ValueError, match="No cell has a count in any gene"):
        reference.add(none)
    assert len(Reference.open(folder)) == 750
    reference.verify()


def test_labels_by_synonym_and_codes_are_reported(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    names = {"B cell": "B lymphocyte", "CD14-positive monocyte": "DC2", "natural killer cell": "CL:0000623"}
    pbmc.obs["mine"] = pbmc.obs["cell_type"].astype(str).replace(names)
    with (
        pytest.warns(UserWarning, match=r"1 of \d+ labels were taken by synonym.*: 'B lymphocyte' \(B cell\)\. If"),
        pytest.warns(UserWarning, match=r"short codes .* were not taken.*'DC2' \(plasmacytoid dendritic cell\?\)"),
        pytest.warns(UserWarning, match="1 of .* labels are not in the ontology"),
    ):
        reference = Reference.build(tmp_path / "r.scim", pbmc, encoder, labels_key="mine", study_key="study")
    labels = set(reference.obs["label"].dropna().unique())
    assert {"B cell", "DC2", "natural killer cell"} <= labels
    asked = CellOntology.bundled().with_synonyms({"DC2": "CD14-positive monocyte"})
    with pytest.warns(UserWarning, match="'B lymphocyte'") as said:
        reference = Reference.build(
            tmp_path / "asked.scim", pbmc, encoder, labels_key="mine", study_key="study", ontology=asked
        )
    assert len(said) == 1 and "CD14-positive monocyte" in set(reference.obs["label"].dropna().unique())
