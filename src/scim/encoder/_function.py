"""What an encoder does: find counts and genes in data, normalise, and embed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._progress import progress_bar
from .._validate import check_option, check_positive_int, get_adata
from .._version import scim_version
from ..counts import BLOCK_ROWS, InputKind, find_values, input_kind, iter_blocks, n_rows, place_name, read_ahead
from ..genes import GeneMap, GeneSpace

if TYPE_CHECKING:
    from anndata import AnnData

    from ._forward import Forward


class EncoderFunction:
    """A function from counts to unit vectors.

    Attributes
    ----------
    genes
        The genes that it takes, in order.
    weights
        Arrays under canonical names.
    id
        What tells it from others.
    n_latent
        Length of the vectors.
    """

    genes: GeneSpace
    weights: dict[str, np.ndarray]
    id: str
    n_latent: int
    #: Precision and device of the last call, and the weights there.
    _forward: tuple[tuple[str, str], Forward] | None

    def __call__(
        self,
        X: Any,
        *,
        kind: InputKind | Literal["auto", "counts", "log1p"] = "auto",
        precision: str = "auto",
        device: str = "auto",
        chunk_size: int = BLOCK_ROWS,
    ) -> np.ndarray:
        """Embed a matrix whose columns are the encoder's genes.

        Parameters
        ----------
        X
            Counts or log1p values (n_cells, n_genes): ndarray, sparse, backed or Dask.
        kind
            What the values are; ``"auto"`` finds out.
        precision, device
            See :meth:`embed`.
        chunk_size
            Cells at a time; changes memory and speed, and the result by rounding only.

        Returns
        -------
        float32 (n_cells, n_latent), rows of length 1, or 0 for a cell without counts.

        Raises
        ------
        ValueError
            ``X`` has another number of columns, or values that are neither counts nor log1p.
        """
        if not hasattr(X, "shape"):
            raise TypeError(f"X must be an array or a sparse matrix, got {type(X).__name__}.")
        if len(X.shape) != 2 or X.shape[1] != len(self.genes):
            raise ValueError(
                f"X must be (n_cells, {len(self.genes)}), a column for each gene of the encoder, got {X.shape}. "
                "embed(adata) puts the genes in order by itself."
            )
        if isinstance(kind, str):
            check_option(kind, ("auto", "counts", "log1p"), argument="kind")
            kind = input_kind(X) if kind == "auto" else InputKind(kind, None, "as given")
        elif not isinstance(kind, InputKind):
            raise TypeError(f'kind must be "auto", "counts", "log1p" or an InputKind, got {type(kind).__name__}.')
        own = self.genes.match(list(self.genes.names))
        return self._run(X, own, kind, precision=precision, device=device, chunk_size=chunk_size)

    def embed(
        self,
        adata: AnnData,
        *,
        layer: str | None = None,
        gene_column: str | None = None,
        mod: str | None = None,
        precision: str = "auto",
        device: str = "auto",
        chunk_size: int = BLOCK_ROWS,
        return_info: bool = False,
    ) -> Any:
        """Embed the cells of ``adata``.

        Parameters
        ----------
        adata
            AnnData or MuData; in memory, backed or Dask.
        layer
            Where the values are: a layer, ``"X"`` or ``"raw"``. None takes counts from X or ``layers["counts"]``, or
            else log1p values from X or ``raw``; and ``raw`` where that has more of the encoder's genes, as it has where
            X was cut to variable genes.
        gene_column
            Column of ``var`` with gene names; None finds them.
        mod
            Modality of a MuData.
        precision
            ``"fp32"``, ``"bf16"`` or ``"auto"``.
        device
            ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
        chunk_size
            Cells at a time; changes memory and speed, and the result by rounding only.
        return_info
            Also return what was found out about the data, as plain values.

        Returns
        -------
        float32 (n_cells, n_latent), rows of length 1, or 0 for a cell without counts in the encoder's genes; with
        ``return_info`` a dict as well.

        Raises
        ------
        ValueError
            Too few genes are shared, or the values are neither counts nor log1p.
        KeyError
            There is no such layer, column or modality.
        """
        place, X, kind, gene_map = self._prepare(get_adata(adata, mod=mod), layer, gene_column)
        vectors = self._run(X, gene_map, kind, precision=precision, device=device, chunk_size=chunk_size)
        return (vectors, self._info(place, kind, gene_map, vectors)) if return_info else vectors

    def embed_chunks(
        self,
        adata: AnnData,
        *,
        layer: str | None = None,
        gene_column: str | None = None,
        mod: str | None = None,
        precision: str = "auto",
        device: str = "auto",
        chunk_size: int = BLOCK_ROWS,
        start: int = 0,
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Embed the cells of ``adata`` block by block, for data whose vectors should not all be in memory.

        Parameters and errors are those of :meth:`embed`; cells before ``start`` are left out.

        Yields
        ------
        Positions of the cells, and their vectors.
        """
        _, X, kind, gene_map = self._prepare(get_adata(adata, mod=mod), layer, gene_column)
        yield from self._iterate(
            X, gene_map, kind, precision=precision, device=device, chunk_size=chunk_size, start=start
        )

    def attribute(self, anchors: np.ndarray, negatives: np.ndarray, *, n_steps: int = 50) -> np.ndarray:
        """Say how much each gene of a cell adds to its distance from another: integrated gradients.

        Parameters
        ----------
        anchors, negatives
            Pairs of log-normalised profiles over the encoder's genes, arrays or sparse matrices (n, n_genes).
        n_steps
            Points on the line between the two.

        Returns
        -------
        float32 (n, n_genes), 0 for a gene that is not higher in the anchor. :func:`scim.tl.explain` averages and ranks.

        Raises
        ------
        ValueError
            The two differ in shape, or from the encoder's genes, or hold NaN.
        ImportError
            captum is not installed.
        """
        from ._attribution import attribute, check_pairs

        one, other = check_pairs(anchors, negatives, n_genes=len(self.genes))
        return attribute(self.weights, one, other, n_steps=check_positive_int(n_steps, argument="n_steps"))

    def _run(
        self, X: Any, gene_map: GeneMap, kind: InputKind, *, precision: str, device: str, chunk_size: int
    ) -> np.ndarray:
        vectors = np.empty((n_rows(X), self.n_latent), dtype=np.float32)
        with progress_bar(len(vectors), desc="Embedding") as bar:
            for span, part in self._iterate(
                X, gene_map, kind, precision=precision, device=device, chunk_size=chunk_size
            ):
                vectors[span] = part
                bar.update(len(part))
        return vectors

    def _iterate(
        self,
        X: Any,
        gene_map: GeneMap,
        kind: InputKind,
        *,
        precision: str,
        device: str,
        chunk_size: int,
        start: int = 0,
    ) -> Iterator[tuple[slice, np.ndarray]]:
        check_positive_int(chunk_size, argument="chunk_size")
        from ._normalized import UnusableValues, to_blocked_lognormal

        forward = self._network(precision, device)
        rows = slice(start, None) if start else None
        for within, block in read_ahead(iter_blocks(X, chunk_size=chunk_size, rows=rows), X):
            span = slice(within.start + start, within.stop + start)
            try:
                normalized = to_blocked_lognormal(block, gene_map, kind)
            except UnusableValues as error:  # the kind of values was told from a sample of the cells
                raise ValueError(
                    f"Cells {span.start} to {span.stop - 1} hold {error}. Give raw counts or log1p values: name the "
                    "layer that holds them with layer=."
                ) from error
            del block  # before the next one comes
            vectors = forward(normalized)
            del normalized
            yield span, vectors

    def _network(self, precision: str, device: str) -> Forward:
        """Weights on the device; those of the last call are kept."""
        from ._forward import make_forward

        if self._forward is None or self._forward[0] != (precision, device):
            self._forward = (precision, device), make_forward(self.weights, precision=precision, device=device)
        return self._forward[1]

    def __getstate__(self) -> dict[str, Any]:
        # What is on a device is made again where it is needed.
        return {**self.__dict__, "_forward": None}

    def _prepare(
        self, data: AnnData, layer: str | None, gene_column: str | None
    ) -> tuple[str, Any, InputKind, GeneMap]:
        """Find the values and the genes of the data, and refuse what cannot be embedded."""
        return find_values(data, self.genes, layer=layer, gene_column=gene_column)

    def _info(self, place: str, kind: InputKind, gene_map: GeneMap, vectors: np.ndarray) -> dict[str, Any]:
        from importlib.metadata import version

        return {
            "encoder_id": self.id,
            "input": {"layer": place, "source": place_name(place), **kind.to_dict()},
            "genes": {
                "source": gene_map.source,
                "n_matched": gene_map.n_matched,
                "n_encoder": len(self.genes),
                "fraction": gene_map.fraction,
                "via": dict(gene_map.via),
            },
            "n_cells_without_counts": int((~vectors.any(axis=1)).sum()),
            "versions": {"scim": scim_version(), "torch": version("torch"), "numpy": np.__version__},
        }
