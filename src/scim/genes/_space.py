"""Gene spaces: an ordered list of genes, and how the columns of other data map onto it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import check_key
from .._warn import warn
from ._names import IdKind, canonical, foreign_species, id_kind_of, strip_version

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

#: Data that share fewer genes with an encoder are refused (never more than half of a small encoder's genes).
MIN_GENES = 100
#: Data that have a smaller share of an encoder's genes are embedded with a warning.
COMFORTABLE_FRACTION = 0.25

_RANKS = ("exact", "version", "case", "ensembl", "alias")
#: Ways that take no decision on what a gene is called.
_STRICT_RANKS = ("exact", "version", "ensembl")


class GeneSpace:
    """An ordered list of distinct genes.

    Parameters
    ----------
    names
        Symbols or Ensembl gene ids; versions of the latter are cut off.
    id_kind
        ``"symbol"`` or ``"ensembl"``; recognised by default.
    aliases
        Whether :meth:`match` finds genes by other letter case, previous symbols and aliases as well.

    Raises
    ------
    ValueError
        There is no gene, or one stands there twice.

    Examples
    --------
    >>> from scim.genes._space import GeneSpace
    >>> space = GeneSpace(["CD3E", "MS4A1", "NKG7"])
    >>> space.match(["ENSG00000156738", "cd3e", "unheard-of"]).target.tolist()
    [1, 0, -1]
    """

    def __init__(self, names: Sequence[str], *, id_kind: IdKind | None = None, aliases: bool = True) -> None:
        cleaned = [strip_version(str(name)) for name in names]
        if not cleaned:
            raise ValueError("names is empty: a gene space needs at least one gene.")
        self._position = {name: i for i, name in enumerate(cleaned)}
        if len(self._position) < len(cleaned):
            twice = next(name for i, name in enumerate(cleaned) if self._position[name] != i)
            raise ValueError(f"names holds {twice!r} twice. Use GeneSpace.from_adata, which merges duplicates.")
        self.names = np.array(cleaned, dtype=object)
        self.names.flags.writeable = False
        self.id_kind: IdKind = id_kind or id_kind_of(cleaned)
        self.aliases = aliases
        self.hash = hashlib.sha256("\n".join(cleaned).encode()).hexdigest()
        self._by_canonical: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GeneSpace) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __contains__(self, name: object) -> bool:
        return name in self._position

    def __repr__(self) -> str:
        return f"GeneSpace of {len(self):,} genes ({self.id_kind}): {', '.join(self.names[:4])}, ..."

    def index(self, name: str) -> int:
        """Position of a gene; a :class:`KeyError` for one that is not there."""
        check_key(self._position, name, argument="name", where="the gene space")
        return self._position[name]

    @classmethod
    def from_adata(cls, adata: AnnData, *, gene_column: str | None = None) -> GeneSpace:
        """Make a space of the genes of ``adata``, in their order; a repeated gene counts once.

        Parameters
        ----------
        adata
            Its ``var_names`` are taken.
        gene_column
            Column of ``var`` to take instead.
        """
        source, names = name_candidates(adata.var, gene_column)[0]
        refuse_numbers(names, adata.var, source=source)
        return cls(list(dict.fromkeys(strip_version(name) for name in names)))

    def match(self, names: Sequence[str], *, source: str = "var_names") -> GeneMap:
        """Map ``names`` onto this space.

        A gene is found by its very name, without its version, in other letter case, by its Ensembl id or symbol, and by
        a previous symbol or alias, in this order; a weaker way never adds to a gene that a stronger one found. Which
        column goes where does not depend on the order of the columns.

        Parameters
        ----------
        names
            Gene names of the data, in the order of their columns; repeated ones are summed by :meth:`GeneMap.align`.
        source
            Where they come from, for messages.
        """
        given = [str(name) for name in names]
        candidates = [self._find(name) for name in given]
        target = np.full(len(given), -1, dtype=np.int32)
        via = dict.fromkeys(_RANKS, 0)
        taken: dict[int, str] = {}
        for rank in _RANKS if self.aliases else _STRICT_RANKS:
            for i, (position, how) in enumerate(candidates):
                # Columns that are found alike are one gene, split by the reader or the annotation: their counts add up.
                # Another name for a gene that is there under its own is more likely another gene: it stays out.
                if how == rank and taken.setdefault(position, rank) == rank:
                    target[i] = position
                    via[rank] += 1
        measured = np.zeros(len(self), dtype=bool)
        measured[target[target >= 0]] = True
        return GeneMap(target, self, source, {how: n for how, n in via.items() if n}, measured, tuple(given[:5]))

    def match_adata(self, adata: AnnData, *, gene_column: str | None = None, use_raw: bool = False) -> GeneMap:
        """Map the genes of ``adata`` onto this space, by ``var_names`` or the column of ``var`` that fits best.

        Parameters
        ----------
        adata
            Data of any shape.
        gene_column
            Column of ``var`` with gene names; None looks at ``var_names`` and all columns of text.
        use_raw
            Map the genes of ``adata.raw``.

        Raises
        ------
        KeyError
            ``gene_column`` is not in ``var``.
        ValueError
            The genes are numbers, or those of another species.
        """
        var = adata.raw.var if use_raw else adata.var
        best: GeneMap | None = None
        candidates = name_candidates(var, gene_column)
        for source, names in candidates:
            found = self.match(names, source=source)
            if best is None or found.n_matched > best.n_matched:
                best = found
            if best.n_matched >= 0.8 * min(len(self), len(names)):
                break
        if best is None:
            raise ValueError("adata has no genes.")
        if best.n_matched < 0.5 * min(len(self), len(var)):
            for _, names in candidates:
                if foreign := foreign_species(names):
                    raise ValueError(
                        f"The genes are not human: {foreign}. Map them to their human orthologues first, and give the "
                        "human names as var_names or with gene_column=."
                    )
        if best.n_matched == 0:
            refuse_numbers(candidates[0][1], var, source=candidates[0][0])
        return best

    def save(self, path: str | Path) -> None:
        """Write the names to a text file, one a line."""
        Path(path).write_text("\n".join(self.names) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> GeneSpace:
        """Read a file that :meth:`save` wrote."""
        return cls(Path(path).read_text(encoding="utf-8").splitlines())

    def _find(self, name: str) -> tuple[int, str]:
        """Position of the gene called ``name`` and how it was found; -1 if it is not here."""
        if name in self._position:
            return self._position[name], "exact"
        if name.isdecimal():  # a row number; some aliases are numbers as well
            return -1, ""
        bare = strip_version(name)
        if bare in self._position:
            return self._position[bare], "version"
        if not self.aliases and id_kind_of([bare]) == self.id_kind == "symbol":
            return -1, ""
        if self._by_canonical is None:
            self._by_canonical = {}
            for position, own in enumerate(self.names):
                approved, _ = canonical(own)
                self._by_canonical.setdefault(approved.upper(), position)
            # A name of the space itself goes before what another gene of the space used to be called.
            self._by_canonical.update((own.upper(), i) for i, own in reversed(list(enumerate(self.names))))
        if bare.upper() in self._by_canonical and self.names[self._by_canonical[bare.upper()]].upper() == bare.upper():
            # Cd3e is a gene of a mouse; only names that are upper or lower case throughout are sloppy human ones.
            own = self.names[self._by_canonical[bare.upper()]]
            foreign = foreign_species([bare]) or foreign_species([own])
            return (-1, "") if foreign else (self._by_canonical[bare.upper()], "case")
        approved, how = canonical(bare)
        position = self._by_canonical.get(approved.upper(), -1)
        if how == "unknown" or position < 0:
            return -1, ""
        translated = how == "ensembl" or (self.id_kind == "ensembl" and how != "alias")
        return position, "ensembl" if translated else "alias"


@dataclass(frozen=True, eq=False)
class GeneMap:
    """How the columns of some data map onto a gene space.

    Attributes
    ----------
    target
        int32 (n_columns,): position in the space of each column's gene, -1 where it has none.
    space
        The gene space.
    source
        Where the names came from: ``"var_names"`` or a column of ``var``.
    via
        How many columns were found in which way: ``exact``, ``version``, ``case``, ``ensembl``, ``alias``.
    measured
        bool (len(space),): genes of the space that the data have.
    examples
        The first names of the data, for messages.
    """

    target: np.ndarray
    space: GeneSpace
    source: str
    via: dict[str, int]
    measured: np.ndarray
    examples: tuple[str, ...] = ()

    @property
    def n_matched(self) -> int:
        """Genes of the space that the data have."""
        return int(self.measured.sum())

    @property
    def fraction(self) -> float:
        """Share of the space's genes that the data have."""
        return self.n_matched / len(self.space)

    @property
    def has_duplicates(self) -> bool:
        """Whether several columns are the same gene."""
        return int((self.target >= 0).sum()) > self.n_matched

    def align(self, X: Any, *, logged: bool = False) -> csr_matrix:
        """Put the columns of ``X`` in the order of the space; missing genes are 0, repeated ones are summed.

        Parameters
        ----------
        X
            ndarray, or CSR or CSC matrix or array, (n_cells, n_columns).
        logged
            Values are log1p: repeated genes are summed on the linear scale.

        Returns
        -------
        float32 CSR matrix (n_cells, len(space)) with sorted indices, which shares no memory with ``X``.
        """
        from scipy import sparse

        if X.shape[1] != len(self.target):
            raise ValueError(f"X has {X.shape[1]} columns, but the genes of {len(self.target)} were mapped.")
        rows = sparse.csr_matrix(X)
        column = self.target[rows.indices]
        keep = column >= 0
        # Entries kept before each place: the row pointers of what stays.
        before = np.zeros(len(keep) + 1, dtype=np.int64)
        np.cumsum(keep, out=before[1:])
        aligned = sparse.csr_matrix(
            (rows.data[keep].astype(np.float32), column[keep], before[rows.indptr]),
            shape=(X.shape[0], len(self.space)),
        )
        if self.has_duplicates:
            if logged:
                np.expm1(aligned.data, out=aligned.data)
            aligned.sum_duplicates()
            if logged:
                np.log1p(aligned.data, out=aligned.data)
        else:
            aligned.has_canonical_format = False
            aligned.sort_indices()
        return aligned

    def check(self, *, floor: int = MIN_GENES, comfortable: float = COMFORTABLE_FRACTION) -> None:
        """Refuse an overlap under ``floor`` genes, and warn of one under the share ``comfortable``.

        Raises
        ------
        ValueError
            The data have fewer than ``floor`` genes of the space, or than half of them where it has few.
        """
        floor = min(floor, (len(self.space) + 1) // 2)
        have = f"{self.n_matched:,} of the encoder's {len(self.space):,} genes ({self.fraction:.1%})"
        if self.n_matched < floor:
            raise ValueError(
                f"The data have {have}, fewer than the {floor:,} needed. Their {self.source} begin with "
                f"{', '.join(map(repr, self.examples))}; the encoder's genes with "
                f"{', '.join(map(repr, self.space.names[:5]))}. If gene names stand in a column of var, name it with "
                "gene_column=; if the genes were filtered, use the unfiltered data."
            )
        if self.fraction < comfortable:
            warn(
                f"The data have {have}, less than the {comfortable:.0%} that results can be relied on with. Use all "
                "genes that were measured rather than a selection."
            )


def name_candidates(
    var: pd.DataFrame, gene_column: str | None = None, *, where: str = "var"
) -> list[tuple[str, list[str]]]:
    """Places where gene names may stand, with the names there: the index, and columns of mostly distinct text.

    Parameters
    ----------
    var
        A row per gene.
    gene_column
        The one column to take.
    where
        What ``var`` is called in messages.
    """
    from pandas.api.types import is_object_dtype, is_string_dtype

    var = getattr(var, "to_memory", lambda: var)()  # of anndata.experimental.read_lazy
    if gene_column is not None:
        check_key(var, gene_column, argument="gene_column", where=where)
        return [(gene_column, var[gene_column].astype(str).tolist())]
    columns = [
        name
        for name in var.columns
        if (is_string_dtype(var[name]) or is_object_dtype(var[name]) or _is_text(var[name]))
        # Chromosomes, biotypes and genomes are no names of genes.
        and 2 * var[name].nunique() > len(var)
    ]
    return [
        ("var_names", var.index.astype(str).tolist()),
        *((str(name), var[name].astype(str).tolist()) for name in columns),
    ]


def _is_text(column: pd.Series) -> bool:
    import pandas as pd

    return isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.categories.dtype.kind not in "iufb"


def refuse_numbers(names: Sequence[str], var: pd.DataFrame, *, source: str = "var_names") -> None:
    """Raise a :class:`ValueError` that lists the columns of ``var``, if the names of its genes are row numbers."""
    if names and all(name.isdecimal() for name in names[:100]):
        raise ValueError(
            f"{source} are numbers ({', '.join(names[:3])}, ...), not genes. Set adata.var_names to gene symbols or "
            f"Ensembl ids, or name their column with gene_column=. Columns of var: {list(map(str, var.columns))}."
        )
