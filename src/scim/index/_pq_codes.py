"""Short codes of vectors in lists, and the sums of look-ups that tell how near each is to a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._threads import in_threads, one_thread_of_faiss

#: What the manifest calls an index of such codes.
KIND = "norm codes"
#: Most codes of a vector, and codes behind them that hold its length.
MOST = 64
FOR_LENGTH = 2
#: Values of a code of four bits.
_VALUES = 16


def width_of(n_latent: int) -> tuple[int, int]:
    """Codes of a vector, an even number, and dimensions that each covers: two, or more where that were over 64."""
    each = max(2, -(-n_latent // MOST))
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

    A cell is taken for c + r, the centre of its list and what its codes stand for. Its distance from a query q is then
    ``|q|^2 - 2 (q.c + q.r - |c + r|^2 / 2)``, in which the look-up tables of ``q.r`` serve all lists, where those of
    the residual ``q - c`` would have to be made for each. What the length takes away is two more codes. The tables are
    summed in registers (Andre, Kermarrec, Le Scouarnec 2015), as faiss's IndexIVFPQFastScan does.

    Attributes
    ----------
    index
        faiss.IndexIVFPQFastScan of inner products, whose ids are positions of cells.
    halves
        Half the squared length of each centre, float32 (n_lists,).
    """

    index: Any
    halves: np.ndarray

    @classmethod
    def of(cls, index: Any) -> ShortCodes:
        """Take an index as it was read or made."""
        centres = index.quantizer.reconstruct_n(0, index.nlist)
        return cls(index, (centres**2).sum(axis=1) / 2)

    def __len__(self) -> int:
        return int(self.index.invlists.compute_ntotal())

    def wide(self, queries: np.ndarray) -> np.ndarray:
        """Bring queries (m, d) to what is looked up: a 1 for each code of the length."""
        each = int(self.index.pq.dsub)
        wide = widened(queries, self.index.d)
        wide[:, self.index.d - FOR_LENGTH * each :: each] = 1.0
        return wide

    def nearest_lists(self, wide: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the ``n`` nearest centres: their inner products, less a number of each query's own, and lists (m, n).

        Returns
        -------
        float32 and int64, nearest first; -1 where a graph of centres found no more.
        """
        distances, lists = self.index.quantizer.search(wide, n)
        products = self.halves[lists] - distances / 2
        # All of a query's share one scale when they are rounded.
        return np.where(lists < 0, products[:, :1], products), lists

    def search(self, wide: np.ndarray, n: int, lists: np.ndarray, products: np.ndarray, selector: Any) -> np.ndarray:
        """Cells with the nearest codes in some lists, int64 (m, n); -1 for none.

        What faiss's own Python method does, which takes no parameters and so no selector.
        """
        import faiss

        m = len(wide)
        # Of its own for each call: other threads visit another number of lists.
        parameters: Any = faiss.SearchParametersIVF(nprobe=lists.shape[1])  # type: ignore[call-arg]
        if selector is not None:
            parameters.sel = selector
        labels, scores = np.empty((m, n), dtype=np.int64), np.empty((m, n), dtype=np.float32)
        arrays = [faiss.swig_ptr(array) for array in (wide, lists, products, scores, labels)]
        self.index.search_preassigned_c(m, arrays[0], n, *arrays[1:], False, parameters)
        return labels


class Coder:
    """Learn codes, and fill lists with them.

    Parameters
    ----------
    quantizer
        faiss index of the centres, widened.
    centres
        The centres, float32 (n_lists, d).
    learned, members
        Vectors to learn from (n, d), and the list of each.
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
        """Put cells into their lists.

        Parameters
        ----------
        vectors, positions, members
            Unit vectors float32 (n, d), and the position and list of each, int64 (n,).
        """
        codes = np.empty((len(vectors), self._index.sa_code_size()), dtype=np.uint8)

        def work(first: int, last: int) -> None:
            some = slice(first, last)
            codes[some, self._n_bytes : -1], lengths = self._coded(vectors[some], members[some])
            coarse = _nearest(lengths, self._levels[0])
            fine = _nearest(lengths - self._levels[0][coarse], self._levels[1])
            codes[some, -1] = coarse | fine << 4

        # As faiss writes a vector by itself: the list, low bytes first, and two codes to a byte.
        codes[:, : self._n_bytes] = members.astype("<i8").view(np.uint8).reshape(-1, 8)[:, : self._n_bytes]
        with one_thread_of_faiss():
            in_threads(len(vectors), work)
        self._index.add_sa_codes(codes, positions)

    def finish(self) -> ShortCodes:
        """Give the lists, laid out for look-ups in registers."""
        import faiss

        fast = faiss.IndexIVFPQFastScan(self._index)
        self._index.reset()  # the codes are held twice, no longer
        return ShortCodes.of(fast)

    def _residuals(self, vectors: np.ndarray, members: np.ndarray) -> np.ndarray:
        wide = widened(vectors, self._centres.shape[1])
        wide -= self._centres[members]
        return wide

    def _coded(self, vectors: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes uint8 (n, n_codes / 2), and minus half the squared length of what they stand for, (n,)."""
        codes = self._pq.compute_codes(self._residuals(vectors, members))
        back = self._pq.decode(codes)
        back += self._centres[members]
        return codes, np.einsum("ij,ij->i", back, back) / -2


def _learn_levels(numbers: np.ndarray) -> np.ndarray:
    """Values of a code that stands for a number, ascending, float32 (16,): k-means in one dimension."""
    import faiss

    quantizer: Any = faiss.ProductQuantizer(1, 1, 4)
    quantizer.train(np.ascontiguousarray(numbers[:, None], dtype=np.float32))
    return np.sort(faiss.vector_to_array(quantizer.centroids))


def _nearest(numbers: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Code of each number, int64 (n,)."""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, numbers)
