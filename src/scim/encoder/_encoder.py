"""Encoder: a frozen function from counts to unit vectors, kept as a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._disk import plain
from .._html import describe
from .._validate import check_positive_int, get_adata
from ..counts import BLOCK_ROWS, InputKind, find_values
from ..genes import GeneSpace, OrganismChoice
from ._folder import EncoderFolderError, read_folder, read_part, write_folder
from ._forward import Forward, make_forward
from ._run import embed_all, embed_blocks, embedding_info, values_of_matrix
from ._weights import check_weights, content_id, hidden_widths, widths_text

if TYPE_CHECKING:
    from anndata import AnnData


class Encoder:
    """A frozen function from counts to unit vectors.

    Genes are put in order (missing ones are 0), counts are scaled to 1e4 over them and logged, then layers of
    [Linear, BatchNorm, PReLU] and a last Linear give a vector that is scaled to length 1.

    Parameters
    ----------
    genes
        Genes of the input, in order.
    weights
        Arrays: ``output.weight`` (n_latent, n_in) and ``output.bias``; for hidden layers i from 0 ``layers.{i}.weight``
        (n_out, n_in), ``layers.{i}.bias``, ``.bn.weight``, ``.bn.bias``, ``.bn.mean``, ``.bn.var`` and ``.prelu``.
    provenance
        Data and settings of the training, as plain values for JSON.
    decoder
        Weights that map vectors back to profiles, kept for training and for SCimilarity.

    Attributes
    ----------
    id, n_latent
        16 hex digits computed from genes and weights, the same everywhere for the same encoder; length of the vectors.

    Raises
    ------
    ValueError
        An array is missing or of the wrong shape.

    Examples
    --------
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
        #: Precision and device of the last call, and the network for them.
        self._forward: tuple[tuple[str, str], Forward] | None = None

    @property
    def decoder(self) -> dict[str, np.ndarray] | None:
        """Weights that map vectors back to profiles; a loaded encoder reads them from its folder at first use.

        Raises
        ------
        EncoderFolderError
            The folder that the encoder was loaded from is missing, or was changed.
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
        return f"Encoder {self.id}: {len(self.genes):,} genes -> {widths_text(self.weights, '-')}"

    def _repr_html_(self) -> str:
        told = {k: self.provenance.get(v) for k, v in (("studies", "studies"), ("labels", "label_names"))}
        return describe(
            "Encoder", {"id": self.id, "genes": len(self.genes), "layers": widths_text(self.weights, " → "), **told}
        )

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
            What the values are; ``"auto"`` recognises it.
        precision, device, chunk_size
            See :meth:`embed`.

        Returns
        -------
        float32 (n_cells, n_latent), rows of length 1, or 0 for a cell without counts.

        Raises
        ------
        ValueError
            ``X`` has another number of columns, or values that are neither counts nor log1p.
        """
        values = values_of_matrix(X, self.genes, kind)
        return embed_all(self._run_on(device, precision), values, n_latent=self.n_latent, chunk_size=chunk_size)

    def embed(
        self,
        adata: AnnData,
        *,
        layer: str | None = None,
        gene_column: str | None = None,
        organism: OrganismChoice = "auto",
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
            else log1p values from X or ``raw``; or ``raw`` if it has more of the encoder's genes.
        gene_column
            Column of ``var`` with gene names; None finds them.
        organism
            ``"human"`` or ``"mouse"``; ``"auto"`` recognises it by the names of the genes. Genes of mouse are mapped to
            their human orthologues, unless the encoder has genes of mouse itself.
        mod
            Modality of a MuData.
        precision
            ``"fp32"`` or ``"bf16"``; ``"auto"`` is fp32 on every machine.
        device
            ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
        chunk_size
            Cells at a time. Changes memory and speed, and the result only by rounding.
        return_info
            Also return a description of the data: matrix, kind of values, genes and versions, as plain values.

        Returns
        -------
        float32 (n_cells, n_latent), rows of length 1, or 0 for a cell without counts; with ``return_info`` a dict, too.

        Raises
        ------
        ValueError
            The data have too few of the encoder's genes or genes of two organisms; values are neither counts nor log1p.
        KeyError
            There is no such layer, column or modality.
        """
        data = get_adata(adata, mod=mod)
        values = find_values(data, self.genes, layer=layer, gene_column=gene_column, organism=organism)
        vectors = embed_all(self._run_on(device, precision), values, n_latent=self.n_latent, chunk_size=chunk_size)
        return (vectors, embedding_info(values, vectors, encoder_id=self.id)) if return_info else vectors

    def embed_chunks(
        self,
        adata: AnnData,
        *,
        layer: str | None = None,
        gene_column: str | None = None,
        organism: OrganismChoice = "auto",
        mod: str | None = None,
        precision: str = "auto",
        device: str = "auto",
        chunk_size: int = BLOCK_ROWS,
        start: int = 0,
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Embed the cells of ``adata`` block by block, if the vectors of all cells should not be in memory.

        Parameters and errors are those of :meth:`embed`. Cells before ``start`` are skipped.

        Yields
        ------
        Positions of the cells, and their vectors.
        """
        data = get_adata(adata, mod=mod)
        values = find_values(data, self.genes, layer=layer, gene_column=gene_column, organism=organism)
        yield from embed_blocks(self._run_on(device, precision), values, chunk_size=chunk_size, start=start)

    def attribute(self, anchors: np.ndarray, negatives: np.ndarray, *, n_steps: int = 50) -> np.ndarray:
        """Compute how much each gene of a cell adds to its distance from another, by integrated gradients.

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
            The two differ in shape, do not have the encoder's genes, or hold NaN.
        ImportError
            captum is not installed.
        """
        from ._attribution import attribute, check_pairs

        one, other = check_pairs(anchors, negatives, n_genes=len(self.genes))
        return attribute(self.weights, one, other, n_steps=check_positive_int(n_steps, argument="n_steps"))

    def _run_on(self, device: str, precision: str) -> Forward:
        """Return the network on a device. The network of the last call is kept."""
        if self._forward is None or self._forward[0] != (precision, device):
            self._forward = (precision, device), make_forward(self.weights, precision=precision, device=device)
        return self._forward[1]

    def __getstate__(self) -> dict[str, Any]:
        # The network on a device is not pickled: it is made again where it is needed.
        return {**self.__dict__, "_forward": None}

    def rounded(self) -> Encoder:
        """Round the matrices to float16, to store them in half the space.

        Returns
        -------
        Another encoder with another id and without a decoder. Its embeddings differ by about 1e-3.
        """
        weights = {
            name: array.astype(np.float16).astype(np.float32) if array.ndim == 2 else array
            for name, array in self.weights.items()
        }
        return Encoder(self.genes, weights, provenance=self.provenance)

    def save(self, path: str | Path, *, overwrite: bool = False, decoder: bool = True) -> None:
        """Write a folder with encoder.json, encoder.safetensors and genes.txt.

        Parameters
        ----------
        path, overwrite
            Folder to make, and whether to replace an encoder there.
        decoder
            Write the decoder, if there is one.

        Raises
        ------
        FileExistsError
            ``path`` exists, and ``overwrite`` is False or it is not an encoder.
        PermissionError, NotADirectoryError
            The folder cannot be made.
        """
        write_folder(
            Path(path).expanduser(),
            genes=self.genes,
            weights=self.weights,
            decoder=self.decoder if decoder else None,
            encoder_id=self.id,
            provenance=self.provenance,
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
            (a ValueError) The folder is not an encoder, or was damaged or edited, so that its id differs.
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
        """Read the folder of a SCimilarity model (format of version 0.4), with any number and width of layers.

        Embeddings are those of the model, up to rounding. Checkpoints are read with ``weights_only=True``.

        Parameters
        ----------
        path
            Folder with encoder.ckpt and gene_order.tsv, and optionally decoder.ckpt.
        aliases
            Also find genes in other letter case and by previous symbols and aliases, as SCimilarity does not:
            embeddings then differ a little from its own. Ensembl ids are understood either way.

        Raises
        ------
        FileNotFoundError
            The folder or one of the two files is missing.
        EncoderFolderError
            (a ValueError) A file is damaged, does not fit the others, or holds other objects than weights.

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
        """Write a folder that SCimilarity 0.4.1 loads: the model with sorted genes, without indexes.

        Parameters
        ----------
        path, overwrite
            As in :meth:`save`.

        Raises
        ------
        FileExistsError
            ``path`` exists, and ``overwrite`` is False, or it is not a model, or it holds indexes of another model.
        ValueError
            The encoder has no hidden layer or more than nine, which SCimilarity cannot read.
        """
        from ._scimilarity import write_model

        n_layers = len(hidden_widths(self.weights))
        if not 1 <= n_layers <= 9:
            raise ValueError(f"SCimilarity reads 1 to 9 hidden layers (sorted as text), the encoder has {n_layers}.")
        write_model(
            Path(path).expanduser(),
            genes=list(map(str, self.genes.names)),
            weights=self.weights,
            decoder=self.decoder,
            provenance=self.provenance,
            overwrite=overwrite,
        )
