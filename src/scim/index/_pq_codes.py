"""Short codes of vectors in lists, whose look-ups add up to their approximate distance from a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._threads import in_threads, one_thread_of_faiss

#: Name of an index of such codes in a manifest.
KIND = "norm codes"
#: Most codes of a vector's direction.
MOST_CODES = 64
#: Codes of a vector's length, behind those of its direction.
FOR_LENGTH = 2
#: Values of a code of four bits.
_VALUES = 16


def width_of(n_latent: int) -> tuple[int, int]:
    """Codes of a vector, an even number, and dimensions of each: two, or more if that would need over 64 codes."""
    each = max(2, -(-n_latent // MOST_CODES))
    n_codes = -(-n_latent // each)
    return n_codes + n_codes % 2, each


def widened(vectors: np.ndarray, width: int) -> np.ndarray:
    """Vectors with zeros behind them, float32 (m, width)."""
    wide = np.zeros((len(vectors), width), dtype=np.float32)
    wide[:, : vectors.shape[1]] = vectors
    return wide


@dataclass(frozen=True, eq=False)
class ShortCodes:
    """Lists of codes: product-quantised residuals (Jegou, Douze, Schmid 2011), four bits each.

    A cell is approximated by c + r, the centre of its list and the residual that its codes stand for. Its squared
    distance from a query q is then ``|q|^2 - 2 (q.c + q.r - |c + r|^2 / 2)``. The look-up tables of ``q.r`` serve all
    lists; those of the residual ``q - c`` would have to be made for each. The last term is two more codes. The tables
    are summed in registers (Andre, Kermarrec, Le Scouarnec 2015), as faiss's IndexIVFPQFastScan does.

    ``index`` is a faiss.IndexIVFPQFastScan of inner products, whose ids are positions of cells. ``halves`` are half the
    squared lengths of the centres, float32 (n_lists,).
    """

    index: Any
    halves: np.ndarray

    @classmethod
    def of(cls, index: Any) -> ShortCodes:
        """Short codes of an index of faiss."""
        centres = index.quantizer.reconstruct_n(0, index.nlist)
        return cls(index, (centres**2).sum(axis=1) / 2)

    def __len__(self) -> int:
        return int(self.index.invlists.compute_ntotal())

    def wide(self, queries: np.ndarray) -> np.ndarray:
        """Widen queries (m, d) with a 1 for each code of the length, as they are looked up."""
        each = int(self.index.pq.dsub)
        wide = widened(queries, self.index.d)
        wide[:, self.index.d - FOR_LENGTH * each :: each] = 1.0
        return wide

    def nearest_lists(self, wide: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the lists with the ``n`` nearest centres, int64 (m, n), nearest first; -1 if a graph found no more.

        The inner products with the centres come first, float32 (m, n), less one number per query.
        """
        distances, lists = self.index.quantizer.search(wide, n)
        products = self.halves[lists] - distances / 2
        # The products of a query share one scale when they are rounded.
        return np.where(lists < 0, products[:, :1], products), lists

    def search(self, wide: np.ndarray, n: int, lists: np.ndarray, products: np.ndarray, selector: Any) -> np.ndarray:
        """Cells with the nearest codes in some lists, int64 (m, n); -1 for none.

        As faiss's own method in Python, which takes no parameters and so no selector.
        """
        import faiss

        m = len(wide)
        # New for each call, for other threads visit another number of lists.
        parameters: Any = faiss.SearchParametersIVF(nprobe=lists.shape[1])  # type: ignore[call-arg]
        if selector is not None:
            parameters.sel = selector
        labels, scores = np.empty((m, n), dtype=np.int64), np.empty((m, n), dtype=np.float32)
        arrays = [faiss.swig_ptr(array) for array in (wide, lists, products, scores, labels)]
        self.index.search_preassigned_c(m, arrays[0], n, *arrays[1:], False, parameters)
        return labels


class Coder:
    """Learn codes, and fill lists with them.

    ``quantizer`` is the faiss index of the centres, widened; ``centres`` are float32 (n_lists, d). Codes are learned
    from the vectors ``learned`` (n, d), which are in the lists ``members``.
    """

    def __init__(self, quantizer: Any, centres: np.ndarray, learned: np.ndarray, members: np.ndarray) -> None:
        import faiss

        n_codes, each = width_of(centres.shape[1])
        self._centres = widened(centres, n_codes * each)
        self._pq: Any = faiss.ProductQuantizer(n_codes * each, n_codes, 4)
        self._pq.train(self._residuals(learned, members))
        _, lengths = self._coded(learned, members)
        self._levels = [_learn_levels(lengths)]
        self._levels.append(_learn_levels(lengths - self._levels[0][_nearest(lengths, self._levels[0])]))
        values = np.zeros((n_codes + FOR_LENGTH, _VALUES, each), dtype=np.float32)
        values[:n_codes] = faiss.vector_to_array(self._pq.centroids).reshape(n_codes, _VALUES, each)
        values[n_codes:, :, 0] = self._levels
        n_lists, inner = len(centres), faiss.METRIC_INNER_PRODUCT
        self._index: Any = faiss.IndexIVFPQ(quantizer, quantizer.d, n_lists, len(values), 4, inner)
        faiss.copy_array_to_vector(values.ravel(), self._index.pq.centroids)
        self._index.is_trained = True
        self._n_bytes = self._index.sa_code_size() - self._index.code_size

    def add(self, vectors: np.ndarray, positions: np.ndarray, members: np.ndarray) -> None:
        """Add unit vectors, float32 (n, d), with the position and list of each, int64 (n,)."""
        codes = np.empty((len(vectors), self._index.sa_code_size()), dtype=np.uint8)

        def work(first: int, last: int) -> None:
            part = slice(first, last)
            codes[part, self._n_bytes : -1], lengths = self._coded(vectors[part], members[part])
            coarse = _nearest(lengths, self._levels[0])
            fine = _nearest(lengths - self._levels[0][coarse], self._levels[1])
            codes[part, -1] = coarse | fine << 4

        # The format of faiss for a single vector: the list, low bytes first, and two codes to a byte.
        codes[:, : self._n_bytes] = members.astype("<i8").view(np.uint8).reshape(-1, 8)[:, : self._n_bytes]
        with one_thread_of_faiss():
            in_threads(len(vectors), work)
        self._index.add_sa_codes(codes, positions)

    def finish(self) -> ShortCodes:
        """Lay out the lists for look-ups in registers."""
        import faiss

        fast = faiss.IndexIVFPQFastScan(self._index)
        self._index.reset()  # or the codes would be held twice
        return ShortCodes.of(fast)

    def _residuals(self, vectors: np.ndarray, members: np.ndarray) -> np.ndarray:
        wide = widened(vectors, self._centres.shape[1])
        wide -= self._centres[members]
        return wide

    def _coded(self, vectors: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes uint8 (n, n_codes / 2), and minus half the squared length of the vectors that they stand for, (n,)."""
        codes = self._pq.compute_codes(self._residuals(vectors, members))
        back = self._pq.decode(codes)
        back += self._centres[members]
        return codes, np.einsum("ij,ij->i", back, back) / -2


def _learn_levels(numbers: np.ndarray) -> np.ndarray:
    """Learn the 16 values of a code of a number by k-means in one dimension, ascending, float32 (16,)."""
    import faiss

    quantizer: Any = faiss.ProductQuantizer(1, 1, 4)
    quantizer.train(np.ascontiguousarray(numbers[:, None], dtype=np.float32))
    return np.sort(faiss.vector_to_array(quantizer.centroids))


def _nearest(numbers: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Code of each number, int64 (n,)."""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, numbers)
