"""Encoder: gene order, normalisation, weights, and where they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._chunks import CHUNK_SIZE, iter_chunks, n_rows, read_ahead
from .._counts import InputKind, find_counts, input_kind, place_name
from .._progress import progress_bar
from .._validate import check_option, check_positive_int, get_adata
from ..genes import GeneMap, GeneSpace
from ._folder import plain
from ._io import EncoderFolderError, read_folder, read_part, write_folder
from ._weights import BN_EPS, check_weights, content_id, count_layers

if TYPE_CHECKING:
    from anndata import AnnData

    from ._forward import Forward


class Encoder:
    """A frozen function from counts to unit vectors.

    Genes are put in order (missing ones are 0), counts are scaled to 1e4 over them and logged, then layers of
    [Linear, BatchNorm, PReLU] and a last Linear give a vector that is scaled to length 1.

    Parameters
    ----------
    genes
        The genes that it takes, in order.
    weights
        Arrays under canonical names, see :func:`scim.encoder._weights.check_weights`.
    provenance
        What it was trained on and how, as JSON takes it.
    decoder
        Weights that map vectors back to profiles, kept for training and for SCimilarity.

    Attributes
    ----------
    genes, weights, provenance
        As above.
    id
        16 hex digits that follow from genes and weights: the same encoder has the same id everywhere.
    n_latent
        Length of the vectors.

    Raises
    ------
    ValueError
        An array is missing or of the wrong shape.

    Examples
    --------
    A random one, as training makes them:

    >>> import numpy as np
    >>> import scim
    >>> from scim.genes import GeneSpace
    >>> adata = scim.datasets.pbmc68k()
    >>> genes = GeneSpace.from_adata(adata)
    >>> matrix = np.random.default_rng(0).normal(size=(8, len(genes)))
    >>> encoder = scim.Encoder(genes, {"output.weight": matrix, "output.bias": np.zeros(8)})
    >>> encoder.embed(adata).shape
    (700, 8)
    >>> encoder.save("random.encoder")
    >>> scim.Encoder.load("random.encoder").id == encoder.id
    True
    """

    def __init__(
        self,
        genes: GeneSpace,
        weights: Mapping[str, np.ndarray],
        *,
        provenance: Mapping[str, Any] | None = None,
        decoder: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.genes = genes
        self.weights = check_weights(weights, n_in=len(genes))
        self.n_latent = len(self.weights["output.bias"])
        self._decoder = None if decoder is None else self._check_decoder(decoder)
        self._read_decoder: Callable[[], Mapping[str, np.ndarray]] | None = None
        self.provenance: dict[str, Any] = plain(provenance or {})
        self.id = content_id(self.weights, genes.hash)
        self._forward: tuple[tuple[str, str], Forward] | None = None

    @property
    def decoder(self) -> dict[str, np.ndarray] | None:
        """Weights that map vectors back to profiles; those of a folder are read when they are first asked for.

        Raises
        ------
        EncoderFolderError
            The folder that the encoder was loaded from is not there any more, or was changed.
        """
        if self._decoder is None and self._read_decoder is not None:
            try:
                part = self._read_decoder()
                self._decoder = self._check_decoder(part) if part else None
            except (OSError, ValueError) as error:
                raise EncoderFolderError(f"The decoder cannot be read any more: {error}") from error
            self._read_decoder = None
        return self._decoder

    def _check_decoder(self, decoder: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return check_weights(decoder, n_in=self.n_latent, n_out=len(self.genes))

    def __repr__(self) -> str:
        widths = [len(self.weights[f"layers.{i}.bias"]) for i in range(count_layers(self.weights))]
        return f"Encoder {self.id}: {len(self.genes):,} genes -> {'-'.join(map(str, [*widths, self.n_latent]))}"

    def __call__(
        self,
        X: Any,
        *,
        kind: InputKind | Literal["auto", "counts", "log1p"] = "auto",
        precision: str = "auto",
        device: str = "auto",
        chunk_size: int = CHUNK_SIZE,
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
        chunk_size: int = CHUNK_SIZE,
        return_info: bool = False,
    ) -> Any:
        """Embed the cells of ``adata``.

        Parameters
        ----------
        adata
            AnnData or MuData; in memory, backed or Dask.
        layer
            Where the values are: a layer, ``"X"`` or ``"raw"``. None takes counts from X or ``layers["counts"]``, or
            else log1p values from X or ``raw``.
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
        chunk_size: int = CHUNK_SIZE,
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

    def rounded(self) -> Encoder:
        """Round the matrices to float16, in which they are stored in half the space.

        Returns
        -------
        Another encoder, with an id of its own, whose embeddings differ by about 1e-3; without a decoder.
        """
        weights = {
            name: array.astype(np.float16).astype(np.float32) if array.ndim == 2 else array
            for name, array in self.weights.items()
        }
        return Encoder(self.genes, weights, provenance=self.provenance)

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

    def save(self, path: str | Path, *, overwrite: bool = False, decoder: bool = True) -> None:
        """Write a folder with encoder.json, encoder.safetensors and genes.txt.

        Parameters
        ----------
        path
            Folder to make.
        overwrite
            Replace an encoder at ``path``.
        decoder
            Write the decoder as well, where there is one.

        Raises
        ------
        FileExistsError
            ``path`` exists, and ``overwrite`` is False or it is something else than an encoder.
        PermissionError, NotADirectoryError
            The folder cannot be made.
        """
        write_folder(
            Path(path).expanduser(),
            genes=self.genes,
            weights=self.weights,
            decoder=self.decoder if decoder else None,
            facts={
                "id": self.id,
                "n_genes": len(self.genes),
                "gene_hash": self.genes.hash,
                "gene_ids": self.genes.id_kind,
                "gene_aliases": self.genes.aliases,
                "n_latent": self.n_latent,
                "n_hidden": [len(self.weights[f"layers.{i}.bias"]) for i in range(count_layers(self.weights))],
                "normalization": "1e4 per cell over the genes, log1p",
                "batch_norm_eps": BN_EPS,
                "provenance": self.provenance,
            },
            overwrite=overwrite,
        )

    @classmethod
    def load(cls, path: str | Path) -> Encoder:
        """Read a folder that :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            There is no such folder.
        EncoderFolderError
            (a ValueError) The folder is something else, or was damaged or edited: its content has another id.
        """
        path = Path(path).expanduser()
        genes, weights, facts = read_folder(path)
        try:
            encoder = cls(genes, weights, provenance=facts.get("provenance"))
        except ValueError as error:
            raise EncoderFolderError(f"{path} is damaged: {error} Save the encoder again.") from error
        if encoder.id != facts.get("id"):
            raise EncoderFolderError(
                f"{path} was changed: its genes and weights have the id {encoder.id}, encoder.json says "
                f"{facts.get('id')}. Save the encoder again."
            )
        encoder._read_decoder = partial(read_part, path.absolute(), "decoder")
        return encoder

    @classmethod
    def from_scimilarity(cls, path: str | Path, *, aliases: bool = False) -> Encoder:
        """Read the folder of a SCimilarity model (0.4 or like it), of any number and width of layers.

        Its embeddings are reproduced to rounding. Neither SCimilarity nor anything that could run code is needed or
        loaded: checkpoints are read with ``weights_only=True``.

        Parameters
        ----------
        path
            Folder with encoder.ckpt and gene_order.tsv, and decoder.ckpt where there is one.
        aliases
            Find genes of new data by letter case, previous symbols and aliases too, which SCimilarity does not: more
            genes are found, and embeddings differ a little from its own. Ensembl ids are understood either way.

        Raises
        ------
        FileNotFoundError
            The folder or one of the two files is missing.
        EncoderFolderError
            (a ValueError) A file is damaged, does not fit the others, or holds more than weights.

        Examples
        --------
        >>> encoder = scim.Encoder.from_scimilarity("model_v1.1")  # doctest: +SKIP
        >>> encoder.save("scimilarity.encoder")  # doctest: +SKIP
        """
        from . import _scimilarity as theirs

        path = Path(path).expanduser()
        weights = theirs.read_weights(path, theirs.ENCODER)
        try:
            genes = GeneSpace(theirs.read_genes(path), aliases=aliases)
            encoder = cls(genes, weights, provenance=theirs.read_provenance(path))
            if (path / theirs.DECODER).is_file():
                encoder._check_decoder(theirs.read_weights(path, theirs.DECODER))
                encoder._read_decoder = partial(theirs.read_weights, path.absolute(), theirs.DECODER)
        except EncoderFolderError:
            raise
        except ValueError as error:
            raise EncoderFolderError(f"The files of {path} do not fit together: {error}") from error
        return encoder

    def to_scimilarity(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a folder that SCimilarity 0.4.1 loads: the model, its genes sorted, without its indexes.

        Parameters
        ----------
        path
            Folder to make.
        overwrite
            Replace a model at ``path``.

        Raises
        ------
        FileExistsError
            ``path`` exists, and ``overwrite`` is False, or it is something else, or it holds indexes of another model.
        ValueError
            There is no hidden layer, or more than nine: SCimilarity cannot read either.
        """
        from ._scimilarity import write_model

        n_layers = count_layers(self.weights)
        if not 1 <= n_layers <= 9:
            raise ValueError(f"SCimilarity reads 1 hidden layer to 9 at most (it sorts them as text), not {n_layers}.")
        write_model(
            Path(path).expanduser(),
            genes=list(map(str, self.genes.names)),
            weights=self.weights,
            decoder=self.decoder,
            provenance=self.provenance,
            overwrite=overwrite,
        )

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
        from ._rows import UnusableValues, normalized_rows

        forward = self._network(precision, device)
        rows = slice(start, None) if start else None
        for within, block in read_ahead(iter_chunks(X, chunk_size=chunk_size, rows=rows), X):
            span = slice(within.start + start, within.stop + start)
            try:
                normalized = normalized_rows(block, gene_map, kind)
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
        place, X, kind, use_raw = find_counts(data, layer=layer)
        gene_map = self.genes.match_adata(data, gene_column=gene_column, use_raw=use_raw)
        gene_map.check()
        return place, X, kind, gene_map

    def _info(self, place: str, kind: InputKind, gene_map: GeneMap, vectors: np.ndarray) -> dict[str, Any]:
        from importlib.metadata import version

        from .. import __version__

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
            "versions": {"scim": __version__, "torch": version("torch"), "numpy": np.__version__},
        }
