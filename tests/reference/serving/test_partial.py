"""Lists of an index that are read without the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from scim._disk._checksums import CheckedFile, IndexFileError, describe_files
from scim.reference.serving._partial import check_places, read_lists

N, D, LISTS = 4_000, 12, 30


@pytest.fixture(scope="module")
def whole() -> Any:
    vectors = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    index = faiss.IndexIVFPQ(faiss.IndexFlatL2(D), D, LISTS, 6, 4, faiss.METRIC_L2)
    index.train(vectors[:2_000])
    index.add(vectors)
    return faiss.IndexIVFPQFastScan(index)


@pytest.fixture
def sizes(whole: Any) -> np.ndarray:
    return np.array([whole.invlists.list_size(i) for i in range(LISTS)])


@pytest.fixture(params=[4_096, None], ids=["blocks", "one hash"])
def written(whole: Any, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any]]:
    path = tmp_path / "codes.faiss"
    faiss.write_index(whole, str(path))
    return path, describe_files(tmp_path, [path.name], block=request.param)[path.name]


def search(index: Any, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parameters = faiss.SearchParametersIVF(nprobe=LISTS)
    return index.search(queries, N, params=parameters)


def test_parts_hold_what_the_whole_holds(written: tuple[Path, dict[str, Any]], whole: Any, sizes: np.ndarray) -> None:
    queries = np.random.default_rng(1).normal(size=(5, D)).astype(np.float32)
    expected = search(whole, queries)
    bounds = [0, 7, 7, 29, LISTS]
    parts = [read_lists(*written, sizes, a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    assert [part.invlists.compute_ntotal() for part in parts] == [
        sizes[a:b].sum() for a, b in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    found = [search(part, queries) for part in parts]
    for i in range(len(queries)):
        approximate = {
            int(cell): score
            for scores, cells in found
            for score, cell in zip(scores[i], cells[i], strict=True)
            if cell >= 0
        }
        # faiss rounds the distances alike, whichever lists are empty, but for what it adds up at the end.
        assert approximate == pytest.approx(dict(zip(expected[1][i].tolist(), expected[0][i], strict=True)), rel=1e-5)


def test_only_blocks_of_the_part_are_read(
    whole: Any, sizes: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "codes.faiss"
    faiss.write_index(whole, str(path))
    facts = describe_files(tmp_path, [path.name], block=4_096)[path.name]
    read: set[int] = set()
    real = CheckedFile._block

    def note(self: CheckedFile, i: int) -> bytes:
        read.add(i)
        return real(self, i)

    monkeypatch.setattr(CheckedFile, "_block", note)
    read_lists(path, facts, sizes, 0, 2)
    assert len(facts["blocks"]) > 10 > len(read)
    spoil = bytearray(path.read_bytes())
    spoil[-1] ^= 1
    path.write_bytes(spoil)
    read_lists(path, facts, sizes, 0, 2)
    with pytest.raises(IndexFileError):
        read_lists(path, facts, sizes, 2, LISTS)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[900] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [truncate, zero, flip, Path.unlink])
def test_a_damaged_file_is_refused(
    written: tuple[Path, dict[str, Any]], sizes: np.ndarray, spoil: Callable[[Path], None]
) -> None:
    spoil(written[0])
    with pytest.raises(IndexFileError, match=r"codes\.faiss"):
        read_lists(*written, sizes, 0, 5)


def test_what_is_no_such_index_is_refused(tmp_path: Path, sizes: np.ndarray) -> None:
    path = tmp_path / "flat.faiss"
    flat = faiss.IndexFlatL2(D)
    flat.add(np.zeros((100, D), dtype=np.float32))
    faiss.write_index(flat, str(path))
    (tmp_path / "text.faiss").write_text("no index")
    for name, facts in describe_files(tmp_path, ["flat.faiss", "text.faiss"]).items():
        with pytest.raises(IndexFileError):
            read_lists(tmp_path / name, facts, sizes, 0, 5)


def test_other_sizes_are_refused(written: tuple[Path, dict[str, Any]], sizes: np.ndarray) -> None:
    with pytest.raises(IndexFileError):
        read_lists(*written, sizes[::-1].copy(), 0, LISTS)
    with pytest.raises(IndexFileError):
        read_lists(*written, sizes[:-1], 0, 5)


def test_places_of_cells(written: tuple[Path, dict[str, Any]], sizes: np.ndarray) -> None:
    whole = read_lists(*written, sizes, 0, LISTS)
    ids = [faiss.rev_swig_ptr(whole.invlists.get_ids(i), int(n)) for i, n in enumerate(sizes)]
    rows = np.empty(N, dtype=np.int32)
    rows[np.concatenate(ids)] = np.arange(N)
    part = read_lists(*written, sizes, 3, 9)
    assert check_places(part, rows, sizes, 3, 9)
    assert not check_places(part, rows[:100], sizes, 3, 9)
    here, elsewhere = ids[4][0], ids[12][0]
    rows[[here, elsewhere]] = rows[[elsewhere, here]]
    assert not check_places(part, rows, sizes, 3, 9)
