from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

from scim import Encoder
from scim.encoder import EncoderFolderError
from scim.genes import GeneSpace


@pytest.fixture
def folder(encoder: Encoder, tmp_path: Path) -> Path:
    encoder.save(tmp_path / "blood.encoder")
    return tmp_path / "blood.encoder"


def test_round_trip(encoder: Encoder, pbmc: AnnData, make_weights, tmp_path: Path) -> None:
    path = tmp_path / "ein Ordner für Zellen 細胞" / "Blut.encoder"
    decoder = make_weights([16, 24, 765])
    Encoder(encoder.genes, encoder.weights, provenance=encoder.provenance, decoder=decoder).save(path)
    assert sorted(p.name for p in path.iterdir()) == ["encoder.json", "encoder.safetensors", "genes.txt"]
    assert [p.name for p in path.parent.iterdir()] == ["Blut.encoder"]
    loaded = Encoder.load(str(path))
    assert loaded.id == encoder.id
    assert loaded.genes == encoder.genes
    assert loaded.provenance == {"studies": ["Zheng 2017"], "seed": 7}
    np.testing.assert_array_equal(loaded.embed(pbmc), encoder.embed(pbmc))
    assert loaded.decoder is not None
    np.testing.assert_array_equal(loaded.decoder["output.weight"], decoder["output.weight"])


def test_kind_of_gene_ids_is_kept(weights: dict[str, np.ndarray], tmp_path: Path) -> None:
    genes = GeneSpace([f"ENSG{i:011d}" for i in range(765)], id_kind="symbol")
    Encoder(genes, weights).save(tmp_path / "e")
    assert Encoder.load(tmp_path / "e").genes.id_kind == "symbol"


def test_provenance_of_any_kind_is_kept_as_json(encoder: Encoder, tmp_path: Path) -> None:
    provenance = {"a": np.float32(0.5), "b": np.arange(2), "c": {"x", "y"}, "d": float("nan"), "e": Path("f"), 3: None}
    made = Encoder(encoder.genes, encoder.weights, provenance=provenance)
    made.save(tmp_path / "e")
    expected = {"a": 0.5, "b": [0, 1], "c": ["x", "y"], "d": None, "e": "f", "3": None}
    assert Encoder.load(tmp_path / "e").provenance == made.provenance == expected


@pytest.mark.parametrize("name", ["encoder.json", "encoder.safetensors", "genes.txt"])
@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "edited"])
def test_damage_is_named(folder: Path, name: str, how: str) -> None:
    file = folder / name
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "edited":
        # A byte of a value, a letter of a gene, a digit of the text: all parse as before.
        place = len(content) // 2 if name != "encoder.json" else content.index(b"Zheng 2017") + 9
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    else:
        file.write_bytes(content[: len(content) // 2 if how == "truncated" else 0])
    with pytest.raises(EncoderFolderError, match=name.replace(".", r"\.")):
        Encoder.load(folder)


def test_exchanged_weights_are_refused(folder: Path, encoder: Encoder, make_weights, tmp_path: Path) -> None:
    Encoder(encoder.genes, make_weights([765, 32, 24, 16], seed=1)).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "encoder.safetensors", folder)
    with pytest.raises(EncoderFolderError, match="encoder.safetensors was changed"):
        Encoder.load(folder)


def test_foreign_and_newer_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no encoder at"):
        Encoder.load(tmp_path / "nothing")
    (tmp_path / "foreign").mkdir()
    with pytest.raises(EncoderFolderError, match="encoder.json is missing"):
        Encoder.load(tmp_path / "foreign")
    (tmp_path / "foreign" / "encoder.json").write_text('{"model": "bert"}')
    with pytest.raises(EncoderFolderError, match="does not describe a scim encoder"):
        Encoder.load(tmp_path / "foreign")
    facts = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps({**facts, "version": 99}))
    with pytest.raises(EncoderFolderError, match="format 99.*Update scim"):
        Encoder.load(folder)


def test_an_encoder_is_replaced_only_when_asked(folder: Path, encoder: Encoder, make_weights) -> None:
    other = Encoder(encoder.genes, make_weights([765, 8, 4]))
    with pytest.raises(FileExistsError, match="overwrite=True"):
        other.save(folder)
    assert Encoder.load(folder).id == encoder.id
    other.save(folder, overwrite=True)
    assert Encoder.load(folder).id == other.id
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_something_else_is_never_replaced(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("...")
    for target in (tmp_path / "thesis", tmp_path / "thesis" / "chapter1.tex"):
        with pytest.raises(FileExistsError, match="is not an encoder"):
            encoder.save(target, overwrite=True)
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "..."


def test_failure_leaves_the_old_one(
    folder: Path, encoder: Encoder, make_weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save", fail)
    with pytest.raises(OSError, match="No space left"):
        Encoder(encoder.genes, make_weights([765, 8, 4])).save(folder, overwrite=True)
    assert Encoder.load(folder).id == encoder.id
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_others_may_read_what_the_umask_lets_them(encoder: Encoder, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        encoder.save(tmp_path / "e")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "e").iterdir()} == {0o644}


def test_decoder_is_read_when_it_is_asked_for(
    encoder: Encoder, weights: dict, make_weights: Callable[..., dict], tmp_path: Path
) -> None:
    decoder = make_weights([16, 24, 32, len(encoder.genes)], seed=1)
    full = Encoder(encoder.genes, weights, decoder=decoder)
    full.save(tmp_path / "full")
    loaded = Encoder.load(tmp_path / "full")
    gone = pickle.loads(pickle.dumps(Encoder.load(tmp_path / "full")))
    assert loaded.decoder is not None and set(loaded.decoder) == set(decoder)
    np.testing.assert_array_equal(loaded.decoder["output.weight"], decoder["output.weight"])
    loaded.save(tmp_path / "full", overwrite=True)  # in its own place
    assert Encoder.load(tmp_path / "full").decoder is not None
    encoder.save(tmp_path / "none")
    assert Encoder.load(tmp_path / "none").decoder is None
    with open(tmp_path / "full" / "encoder.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    with pytest.raises(EncoderFolderError, match=r"any more.*encoder\.safetensors"):
        gone.decoder  # noqa: B018
    shutil.rmtree(tmp_path / "full")
    with pytest.raises(EncoderFolderError, match="any more"):
        gone.decoder  # noqa: B018
    assert loaded.decoder is not None
