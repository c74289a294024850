"""The commands on files: what they write, what they say, and how they fail."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner, Result

import scim
from scim.cli import _commands, _files, _training, app
from scim.cli._app import one_line

GENES = list(scim.datasets.pbmc68k().var_names[:200])
LABELS = ["B cell", "T cell", "monocyte"]


def scim_command(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


def make_study(seed: int, n: int = 60, tissue: str = "blood") -> anndata.AnnData:
    """Three kinds of cells, each with forty genes of its own; raw counts."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % 3
    rates = np.full((n, len(GENES)), 0.3)
    for kind in range(3):
        rates[kinds == kind, 40 * kind : 40 * kind + 40] = 4.0
    obs = pd.DataFrame({"cell_type": [LABELS[k] for k in kinds], "tissue": tissue}, index=[f"c{i}" for i in range(n)])
    obs["cluster"] = kinds.astype(str)
    counts = sp.csr_matrix(rng.poisson(rates).astype(np.float32))
    return anndata.AnnData(X=counts, obs=obs, var=pd.DataFrame(index=GENES))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two studies, a new dataset, and an encoder and a reference made by the commands."""
    folder = tmp_path_factory.mktemp("cli")
    make_study(0).write_h5ad(folder / "one.h5ad")
    make_study(1, tissue="lung").write_h5ad(folder / "two.h5ad")
    make_study(2, n=30).write_h5ad(folder / "new.h5ad")
    return folder


@pytest.fixture(scope="module")
def encoder(files: Path) -> Path:
    out = files / "made.encoder"
    done = scim_command(
        "train", files / "one.h5ad", files / "two.h5ad", "--labels-key", "cell_type", "--out", out, "--max-epochs", 3
    )
    assert done.exit_code == 0, done.output
    assert "Training on 120 cells x 200 genes" in done.stdout
    return out


@pytest.fixture(scope="module")
def reference(files: Path, encoder: Path) -> Path:
    out = files / "made.scim"
    done = scim_command(
        *("build", files / "one.h5ad", files / "two.h5ad", "--labels-key", "cell_type"),
        *("--encoder", encoder, "--obs-column", "tissue", "--out", out),
    )
    assert done.exit_code == 0, done.output
    assert "Reference of 120 cells with 3 labels" in done.stdout
    return out


def fails(result: Result, *texts: str) -> None:
    """Assert that a command ended with status 1 and one line on stderr that holds the texts."""
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if "error" in line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("scim: error: ")
    assert "Traceback" not in result.output
    for text in texts:
        assert text in lines[0]


@pytest.mark.parametrize(
    "command",
    ["demo", "train", "build", "add", "remove", "compact", "reindex", "annotate", "query", "push-reference", "info"],
)
def test_help_has_examples(command: str) -> None:
    done = scim_command(command, "--help")
    assert done.exit_code == 0
    assert f"Examples:\n    scim {command}" in done.stdout


def test_help_lists_commands_and_version() -> None:
    done = scim_command("--help")
    assert done.exit_code == 0
    assert "130 interrupted" in " ".join(done.stdout.split())
    assert scim_command("--version").stdout.strip() == f"scim-tools {scim.__version__}"


def test_train_writes_an_encoder_and_a_model(files: Path, encoder: Path, tmp_path: Path) -> None:
    loaded = scim.Encoder.load(encoder)
    assert len(loaded.genes) == len(GENES)
    done = scim_command(
        *("train", files / "one.h5ad", "--labels-key", "cell_type", "--max-epochs", 1, "--triplet-weight", 0.5),
        *("--out", tmp_path / "e", "--model-out", tmp_path / "m"),
    )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "m" / "model.pt").exists()


@pytest.mark.parametrize("end", [".h5ad", ".parquet", ".csv", ".csv.gz"])
def test_annotate_writes_by_extension(files: Path, reference: Path, tmp_path: Path, end: str) -> None:
    out = tmp_path / f"labels{end}"
    done = scim_command("annotate", files / "new.h5ad", "--reference", reference, "--out", out)
    assert done.exit_code == 0, done.output
    assert "Annotated 30 cells" in done.stdout
    if end == ".h5ad":
        table = anndata.read_h5ad(out).obs
        assert "cell_type" in table
    elif end == ".parquet":
        table = pd.read_parquet(out)
    else:
        table = pd.read_csv(out, index_col=0)
    assert list(table.index) == [f"c{i}" for i in range(30)]
    assert {"scim_label", "scim_term_id", "scim_confidence", "scim_novelty"} <= set(table.columns)
    assert list(tmp_path.iterdir()) == [out]


def test_annotate_does_what_the_verb_does(files: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.h5ad"
    done = scim_command(
        *("annotate", files / "new.h5ad", "--reference", reference, "--out", out, "--k", 10),
        *("--where", "tissue=lung", "--key-added", "mine"),
    )
    assert done.exit_code == 0, done.output
    written = anndata.read_h5ad(out)
    adata = anndata.read_h5ad(files / "new.h5ad")
    scim.tl.annotate(adata, reference, k=10, where={"tissue": ["lung"]})
    assert list(written.obs["mine_label"].astype(str)) == list(adata.obs["scim_label"].astype(str))
    np.testing.assert_allclose(written.obsm["X_mine"], adata.obsm["X_scim"], atol=1e-6)


def test_annotate_labels_groups(files: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    done = scim_command(
        *("annotate", files / "new.h5ad", "--reference", reference, "--out", out, "--by", "cluster"),
        *("--vote", "calibrated", "--novelty-fdr", 0, "--alpha", 0.2),
    )
    assert done.exit_code == 0, done.output
    assert "Groups of cluster:" in done.stdout
    table = pd.read_csv(out, index_col=0, keep_default_na=False)
    adata = anndata.read_h5ad(files / "new.h5ad")
    scim.tl.annotate(adata, reference, by="cluster", vote="calibrated", novelty_fdr=0, alpha=0.2)
    for column in ("scim_label", "scim_cluster_label", "scim_cluster_term_id"):
        assert list(table[column]) == list(adata.obs[column].astype(str))
    for row in scim.get.clusters(adata).itertuples():
        assert any(line.split()[0] == row.group and row.label in line for line in done.stdout.splitlines()[-4:-1])


def test_annotate_votes_and_labels_are_passed_on(files: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.h5ad"
    done = scim_command(
        *("annotate", files / "new.h5ad", "--reference", reference, "--out", out, "--vote", "majority"),
        *("--label", "B cell", "--label", "T cell", "--k", 7, "--recall", 0.9),
    )
    assert done.exit_code == 0, done.output
    written = anndata.read_h5ad(out)
    assert set(written.obs["scim_label"].astype(str)) <= {"B cell", "T cell"}
    params = written.uns["scim"]["annotate"]["params"]
    assert params["vote"] == "majority" and params["k"] == 7 and list(params["labels"]) == ["B cell", "T cell"]
    assert params["recall"] == 0.9
    again = tmp_path / "again.csv"
    base = ("annotate", out, "--reference", reference, "--out", again, "--key-added", "mine")
    assert scim_command(*base, "--use-rep", "X_scim").exit_code == 0
    table = pd.read_csv(again, index_col=0)
    assert list(table.columns) == [f"mine_{name}" for name in ("label", "term_id", "confidence", "novelty", "set")]


@pytest.mark.parametrize("end", [".h5ad", ".parquet", ".csv"])
def test_query_writes_by_extension(files: Path, reference: Path, tmp_path: Path, end: str) -> None:
    out = tmp_path / f"hits{end}"
    done = scim_command(
        *("query", files / "new.h5ad", "--reference", reference, "--out", out, "--groupby", "cluster"),
        *("--k", 7, "--recall", 0.9),
    )
    assert done.exit_code == 0, done.output
    assert "21 hits for 3 queries among 120 reference cells" in done.stdout
    if end == ".h5ad":
        hits = scim.get.hits(anndata.read_h5ad(out))
    else:
        hits = (pd.read_parquet(out) if end == ".parquet" else pd.read_csv(out, index_col=0)).reset_index()
    assert hits["query"].astype(str).value_counts().to_dict() == {"0": 7, "1": 7, "2": 7}
    assert "distance" in hits


def test_info_of_all_kinds(files: Path, encoder: Path, reference: Path) -> None:
    for path, kind in ((encoder, "encoder"), (reference, "reference"), (files / "new.h5ad", "h5ad")):
        done = scim_command("info", path, "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["kind"] == kind
    assert "expression: X: counts" in scim_command("info", files / "new.h5ad").stdout


def test_info_of_a_scaled_file_says_so(tmp_path: Path) -> None:
    adata = make_study(0)
    adata.X = adata.X.toarray() - 5
    adata.write_h5ad(tmp_path / "scaled.h5ad")
    done = scim_command("info", tmp_path / "scaled.h5ad")
    assert done.exit_code == 0
    assert "expression: unusable" in done.stdout


def test_existing_output_is_kept_unless_asked(files: Path, encoder: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    out.write_text("mine")
    annotate = ("annotate", files / "new.h5ad", "--reference", reference, "--out", out)
    fails(scim_command(*annotate), "exists already", "--overwrite")
    assert out.read_text() == "mine"
    assert scim_command(*annotate, "--overwrite").exit_code == 0
    assert out.read_text() != "mine"
    fails(scim_command("train", files / "one.h5ad", "--labels-key", "cell_type", "--out", encoder), "exists already")


@pytest.mark.parametrize(
    ("command", "texts"),
    [
        ("annotate neww.h5ad --reference R --out x.csv", ["no file", "Did you mean 'new.h5ad'?"]),
        ("annotate new.h5ad --reference R --out x.cvs", ["--out", ".cvs", "Did you mean '.csv'?"]),
        ("annotate new.h5ad --reference R --out no/x.csv", ["no folder"]),
        ("annotate new.h5ad --reference R --out x.csv --where tissue", ["COLUMN=VALUE"]),
        ("annotate new.h5ad --reference R --out x.csv --where tisue=lung", ["'tissue'"]),
        ("annotate new.h5ad --reference R --out x.csv --where tissue=lnug", ["'lung'"]),
        ("annotate new.h5ad --reference R --out x.csv --layer count", ["count"]),
        ("annotate new.h5ad --reference R --out x.csv --alpha 0.9", ["alpha"]),
        ("annotate new.h5ad --reference nowhere.scim --out x.csv", ["nowhere.scim"]),
        ("annotate new.h5ad --reference R --out x.csv --by clusters", ["Did you mean 'cluster'?"]),
        ("annotate new.h5ad --reference R --out x.csv --vote calibated", ["Did you mean 'calibrated'?"]),
        ("annotate new.h5ad --reference R --out x.csv --label Bcell", ["Did you mean 'B cell'?"]),
        ("annotate new.h5ad --reference R --out x.csv --use-rep X_scvi", ["use_rep='X_scvi'"]),
        ("query new.h5ad --reference R --out x.csv --groupby clusters", ["'cluster'"]),
        ("train one.h5ad --labels-key cell_type --out /proc/e", ["--out /proc/e"]),
        ("train one.h5ad --labels-key celltype --out e", ["Did you mean 'cell_type'?"]),
        ("train one.h5ad two.h5ad --labels-key celltype --out e", ["Did you mean 'cell_type'?"]),
        ("train one.h5ad --labels-key cell_type --study-key tisue --out e", ["'tissue'"]),
        ("train one.h5ad one.h5ad --labels-key cell_type --out e", ["Two files"]),
        ("build one.h5ad --out r --labels-key cell_type --encoder nix", ["nix"]),
        ("build one.h5ad --out r --labels-key cell_type --encoder E --backend exct", ["exact"]),
        ("build one.h5ad --out r --labels-key cell_type --encoder E --obs-column tisue", ["'tissue'"]),
        ("info .", ["neither a reference"]),
        ("info made.txt", ["no file"]),
        ("annotate . --out x.csv", ['scanpy.read_10x_mtx(".")']),
        ("demo --labels-key cell_type", ["--data"]),
        ("demo --data onee.h5ad", ["no file", "Did you mean 'one.h5ad'?"]),
        ("demo --data one.h5ad --labels-key celltype", ["Did you mean 'cell_type'?"]),
    ],
)
def test_user_errors_are_one_line(
    files: Path,
    encoder: Path,
    reference: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    texts: Sequence[str],
) -> None:
    monkeypatch.chdir(files)
    before = sorted(files.iterdir())
    fails(scim_command(*[{"R": reference, "E": encoder}.get(a, a) for a in command.split()]), *texts)
    assert sorted(files.iterdir()) == before


def test_files_of_other_kinds_are_told_how_to_become_h5ad(tmp_path: Path) -> None:
    for name, text in (
        ("x.h5", 'scanpy.read_10x_h5("'),
        ("matrix.mtx", f'scanpy.read_10x_mtx("{tmp_path}").write_h5ad("matrix.h5ad")'),
        ("x.tsv", 'scanpy.read("'),
    ):
        (tmp_path / name).write_text("")
        fails(scim_command("annotate", tmp_path / name, "--out", tmp_path / "o.csv"), "not an .h5ad file", text)


def test_usage_errors_name_what_is_near() -> None:
    done = scim_command("anotate")
    assert done.exit_code == 2
    assert "'annotate'" in done.stderr
    done = scim_command("annotate", "x.h5ad", "--referense", "r", "--out", "x.csv")
    assert done.exit_code == 2
    assert "--reference" in done.stderr


def test_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.h5ad").write_bytes(b"no hdf5")
    fails(scim_command("info", tmp_path / "broken.h5ad"), "broken.h5ad", "cannot be read")
    (tmp_path / "table.txt").write_text("x")
    fails(scim_command("info", tmp_path / "table.txt"), "not an .h5ad file")


def test_debug_shows_the_error_itself(tmp_path: Path) -> None:
    done = scim_command("info", tmp_path / "nix.h5ad", "--debug")
    assert isinstance(done.exception, FileNotFoundError)


def test_interrupt_ends_with_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_commands, "describe", interrupt)
    done = scim_command("info", tmp_path)
    assert done.exit_code == 130
    assert "interrupted; nothing half-written was left" in done.stderr


@pytest.mark.parametrize(("kind", "code"), [(KeyboardInterrupt, 130), (OSError, 1)])
def test_what_is_kept_of_a_build_is_said(
    kind: type[BaseException], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(path: Path) -> None:
        error = kind("the disk is full")
        error.add_note("40,000 cells are done and kept: build it again to go on from there.")
        raise error

    monkeypatch.setattr(_commands, "describe", stop)
    done = scim_command("info", tmp_path)
    assert done.exit_code == code and "nothing half-written" not in done.stderr
    assert "40,000 cells are done and kept" in done.stderr


def test_warnings_of_scim_are_one_line_and_others_are_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(path: Path) -> dict[str, object]:
        warnings.warn_explicit("few genes\nare shared", UserWarning, _commands.__file__, 1)
        warnings.warn_explicit("noise", UserWarning, "elsewhere.py", 1)
        return {"kind": "noisy"}

    monkeypatch.setattr(_commands, "describe", noisy)
    done = scim_command("info", tmp_path)
    assert done.stderr == "scim: warning: few genes are shared\n"


def test_write_leaves_nothing_half_written(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    target.write_text("old")

    def fail(partial: Path) -> None:
        partial.write_text("ne")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        _files.write(target, fail)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_filters() -> None:
    assert _files.filters(None, option="--where") is None
    assert _files.filters(["a=1", "b=x=y", "a=2"], option="--where") == {"a": ["1", "2"], "b": ["x=y"]}
    with pytest.raises(ValueError, match="--exclude 'a=' must look like"):
        _files.filters(["a="], option="--exclude")


def test_several_files_are_a_study_each_unless_a_column_says_more(files: Path) -> None:
    paths = [files / "one.h5ad", files / "two.h5ad"]
    adata, key = _training.studies(paths, labels_key="cell_type", study_key=None, layer=None)
    assert adata.obs[key].astype(str).value_counts().to_dict() == {"one": 60, "two": 60}
    adata, key = _training.studies(paths, labels_key="cell_type", study_key="tissue", layer=None)
    assert adata.obs[key].astype(str).value_counts().to_dict() == {"blood": 60, "lung": 60}


def test_one_line() -> None:
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(KeyError("key 'x'")) == "key 'x'"
    assert one_line(ValueError()) == "ValueError"


def test_labels_in_other_words_meet_by_harmonizing(files: Path, tmp_path: Path) -> None:
    for name, words in (("a", LABELS), ("b", ["B cells", "T-cells", "Monocytes"])):
        adata = make_study(5)
        adata.obs["cell_type"] = adata.obs["cell_type"].map(dict(zip(LABELS, words, strict=True)))
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    two = (tmp_path / "a.h5ad", tmp_path / "b.h5ad", "--labels-key", "cell_type")
    done = scim_command("train", *two, "--out", tmp_path / "plain", "--max-epochs", 1)
    assert done.exit_code == 0
    assert "no terms of the Cell Ontology" in done.stderr
    assert "No label occurs in two studies" in done.stderr
    done = scim_command("train", *two, "--harmonize", "--out", tmp_path / "enc", "--max-epochs", 1)
    assert done.exit_code == 0, done.output
    assert "Cell Ontology" not in done.stderr and "No label occurs" not in done.stderr
    done = scim_command("build", *two, "--harmonize", "--encoder", tmp_path / "enc", "--out", tmp_path / "r.scim")
    assert done.exit_code == 0, done.output
    assert len(scim.Reference.open(tmp_path / "r.scim").terms.labels) == 3


def test_references_have_names(reference: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    from scim.encoder._folder import sha256

    monkeypatch.setenv("SCIM_HOME", str(tmp_path / "home"))
    assert json.loads(scim_command("references", "--json").output)[0]["name"] == "blood"
    assert "cells: 8,708" in scim_command("info", "blood").output
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", reference.parent, reference.name)
    done = scim_command("install-reference", archive, "--sha256", sha256(Path(archive)), "--name", "mine")
    assert done.exit_code == 0 and "Installed mine" in done.output
    assert "mine" in scim_command("references").output
    out = tmp_path / "labels.csv"
    assert scim_command("annotate", files / "new.h5ad", "--reference", "mine", "--out", out).exit_code == 0
    assert out.exists()
    for options in ([], ["--quick"]):
        done = scim_command("verify", "mine", *options)
        assert done.exit_code == 0 and "Whole: " in done.output
    with open(tmp_path / "home" / "mine.scim" / "segments/0001/vectors.i16", "r+b") as file:
        file.write(b"xx")
    fails(scim_command("verify", "mine"), "vectors.i16 was changed")
    fails(scim_command("verify", "yours"), "yours")
    shutil.rmtree(tmp_path / "home" / "mine.scim")
    assert (
        scim_command("install-reference", archive, "--sha256", sha256(Path(archive)), "--name", "mine").exit_code == 0
    )
    again = ("install-reference", archive, "--sha256", sha256(Path(archive)), "--name", "mine")
    fails(scim_command(*again), "exists already", "pass --overwrite")
    assert scim_command(*again, "--overwrite").exit_code == 0
    fails(scim_command("install-reference", archive, "--sha256", "0" * 64), "Nothing was unpacked")
    fails(scim_command("annotate", files / "new.h5ad", "--reference", "mime", "--out", tmp_path / "x.csv"), "'mine'")


def test_filters_find_numbers_and_booleans(reference: Path, files: Path, tmp_path: Path) -> None:
    study = make_study(3)
    study.obs["age"], study.obs["smoker"] = np.arange(60) % 3, np.arange(60) % 2 == 0
    encoder = scim.Reference.open(reference).encoder
    keys = {"labels_key": "cell_type", "study_key": "half", "obs_columns": ["age", "smoker", "tissue"]}
    study.obs["half"] = np.where(np.arange(60) < 30, "first", "second")
    made = scim.Reference.build(tmp_path / "r", study, encoder, **keys)
    given = {"age": ["2", "1.0"], "smoker": ["true"], "tissue": ["1"]}
    assert _files.as_stored(given, made) == {"age": [2, 1], "smoker": [True], "tissue": ["1"]}
    assert _files.as_stored({"age": ["old"], "aeg": ["1"]}, made) == {"age": ["old"], "aeg": ["1"]}
    query = ("query", files / "new.h5ad", "--reference", made.path, "--k", 5, "--out", tmp_path / "hits.csv")
    done = scim_command(*query, "--where", "age=2")
    assert done.exit_code == 0, done.output
    assert set(pd.read_csv(tmp_path / "hits.csv")["age"]) == {2}
