"""Encoder: genes, weights, where they come from, and the folders they are kept in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .._disk import plain
from ..genes import GeneSpace
from ._folder import EncoderFolderError, read_folder, read_part, write_folder
from ._function import EncoderFunction
from ._weights import BN_EPS, check_weights, content_id, count_layers


class Encoder(EncoderFunction):
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
    >>> from scim.genes._space import GeneSpace
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
        self._forward = None

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
