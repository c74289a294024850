"""Gene spaces: ordered lists of genes, and maps of the columns of data onto them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import check_key
from .._warn import warn
from ._align import in_order
from ._columns import name_candidates, refuse_numbers, refuse_other_features
from ._names import IdKind, canonical, foreign_species, id_kind_of, strip_version
from ._organism import Organism, OrganismChoice, count_organisms, organism_of, strip_genome, to_human

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

#: Genes of an encoder that data must have to be embedded, or half of the genes of a small encoder.
MIN_GENES = 100
#: Warn if data have less than this share of an encoder's genes.
COMFORTABLE_FRACTION = 0.25
#: Ways to find a gene, strongest first. The last one may mean another gene.
_RANKS = ("exact", "version", "case", "ensembl", "previous", "alias")
#: Ways that use neither letter case nor older names.
_STRICT_RANKS = ("exact", "version", "ensembl")


class GeneSpace:
    """An ordered list of distinct genes.

    Parameters
    ----------
    names
        Symbols, or Ensembl gene ids, whose versions are removed.
    id_kind
        ``"symbol"`` or ``"ensembl"``; recognised by default.
    aliases
        Also find genes in other letter case, by previous symbols and by aliases.

    Raises
    ------
    ValueError
        There is no gene, or a gene is repeated.

    Examples
    --------
    >>> from scim.genes import GeneSpace
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
        #: The last names that were matched, ``organism=``, and their map: a verb asks for the same several times.
        self._last_map: tuple[tuple[str, ...], str, GeneMap] | None = None

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

    @cached_property
    def organism(self) -> Organism:
        """Organism of the genes, recognised by their names."""
        counts = count_organisms(list(self.names))
        return "mouse" if counts.mouse > counts.human else "human"

    def index(self, name: str) -> int:
        """Return the position of a gene; raise a :class:`KeyError` if it is not in the space."""
        check_key(self._position, name, argument="name", where="the gene space")
        return self._position[name]

    @classmethod
    def from_adata(cls, adata: AnnData, *, gene_column: str | None = None) -> GeneSpace:
        """Make a space of the genes of ``adata``, in their order, without repeats.

        Parameters
        ----------
        adata
            Data with gene names in ``var_names``.
        gene_column
            Column of ``var`` to take instead of ``var_names``.
        """
        source, names, _ = name_candidates(adata.var, gene_column)[0]
        refuse_numbers(names, adata.var, source=source)
        return cls(list(dict.fromkeys(strip_version(name) for name in names if name)))

    def match(self, names: Sequence[str], *, source: str = "var_names", organism: OrganismChoice = "auto") -> GeneMap:
        """Map ``names`` onto this space.

        A gene is looked up by its exact name, without its version, in other letter case, by its Ensembl id or symbol,
        by a previous symbol, and by an alias, in this order. Columns that are found in one of these ways are one gene.
        An alias never adds to a gene that was found in another way. The order of the columns does not matter. The
        genome in front of a gene, as in GRCh38_CD3E, is left out. Genes of mouse are mapped to their human orthologues
        (several may have the same), unless the space has mouse genes.

        Parameters
        ----------
        names
            Gene names of the data, in the order of the columns; :meth:`GeneMap.align` sums repeated genes.
        source
            Where the names come from, for messages.
        organism
            ``"human"`` or ``"mouse"``; ``"auto"`` recognises it by the names.

        Raises
        ------
        ValueError
            ``organism`` is not known, or is ``"auto"`` and the genes are of human and of mouse.
        """
        given = tuple(str(name) for name in names)
        last = self._last_map
        if last is not None and last[:2] == (given, organism) and last[2].source == source:
            return last[2]
        found_organism = organism_of(given, organism, source=source)
        if found_organism == "mouse" and self.organism == "human":
            found = self._match_mouse(given, source)
        else:
            found = self._match_own(given, source, found_organism)
        self._last_map = given, organism, found
        return found

    def _match_own(self, given: tuple[str, ...], source: str, organism: Organism) -> GeneMap:
        """Map genes of the organism of this space."""
        candidates = [self._find(name) for name in given]
        target = np.full(len(given), -1, dtype=np.int32)
        via = dict.fromkeys(_RANKS, 0)
        taken: set[int] = set()
        for rank in _RANKS if self.aliases else _STRICT_RANKS:
            # An alias of a gene that has a column already is more likely another gene: it is left out.
            closed = set(taken) if rank == "alias" else set()
            for i, (position, how) in enumerate(candidates):
                if how == rank and position not in closed:
                    target[i] = position
                    via[rank] += 1
                    taken.add(position)
        return self._map_to(target, source, {how: n for how, n in via.items() if n}, given, organism)

    def _match_mouse(self, given: tuple[str, ...], source: str) -> GeneMap:
        """Map genes of mouse onto this space of human genes."""
        human = to_human(given)
        positions = [self._find_approved(symbol) if symbol else -1 for symbol in human]
        target = np.array(positions, dtype=np.int32)
        via = {"ortholog": n} if (n := int((target >= 0).sum())) else {}
        mapped = np.array([bool(symbol) for symbol in human], dtype=bool)
        return self._map_to(target, source, via, given, "mouse", mapped)

    def _map_to(
        self,
        target: np.ndarray,
        source: str,
        via: dict[str, int],
        given: tuple[str, ...],
        organism: Organism,
        mapped: np.ndarray | None = None,
    ) -> GeneMap:
        measured = np.zeros(len(self), dtype=bool)
        measured[target[target >= 0]] = True
        return GeneMap(target, self, source, via, measured, given[:5], organism, mapped)

    def match_adata(
        self,
        adata: AnnData,
        *,
        gene_column: str | None = None,
        use_raw: bool = False,
        organism: OrganismChoice = "auto",
    ) -> GeneMap:
        """Map the genes of ``adata`` onto this space, by ``var_names`` or the column of ``var`` that matches best.

        Parameters
        ----------
        adata
            Data of any shape.
        gene_column
            Column of ``var`` with gene names; None tries ``var_names`` and all columns of text.
        use_raw
            Map the genes of ``adata.raw`` instead.
        organism
            ``"human"`` or ``"mouse"``; ``"auto"`` recognises it by the names, see :meth:`match`.

        Raises
        ------
        KeyError
            ``gene_column`` is not in ``var``.
        ValueError
            The gene names are numbers, genes of human and of mouse, or genes of another species.
        """
        var = adata.raw.var if use_raw else adata.var
        best: GeneMap | None = None
        candidates = name_candidates(var, gene_column)
        for source, names, notes in candidates:
            found = replace(self.match(names, source=source, organism=organism), notes=notes)
            if best is None or found.n_matched > best.n_matched:
                best = found
            if best.n_matched >= 0.8 * min(len(self), sum(map(bool, names))):
                break
        if best is None:
            raise ValueError("adata has no genes.")
        # Symbols of rat are mostly those of mouse. A column of Ensembl ids tells them apart.
        by_symbol = best.organism == "mouse" and organism == "auto"
        if by_symbol or best.n_matched < 0.5 * min(len(self), len(var)):
            for _, names, _ in candidates:
                if foreign := foreign_species(names, mouse=best.organism == "mouse"):
                    raise ValueError(
                        f"The genes are not {best.organism}: {foreign}. If they are human or mouse, say so with "
                        "organism=. Otherwise, give their human orthologues as var_names or with gene_column=."
                    )
        if best.n_matched == 0:
            refuse_other_features(candidates[0])
            refuse_numbers(candidates[0].names, var, source=candidates[0].source)
        return best

    def save(self, path: str | Path) -> None:
        """Write the names to a text file, one per line."""
        Path(path).write_text("\n".join(self.names) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> GeneSpace:
        """Read a file that :meth:`save` wrote."""
        return cls(Path(path).read_text(encoding="utf-8").splitlines())

    @cached_property
    def _by_canonical(self) -> dict[str, int]:
        """Position of each gene by its approved symbol, and by its own name, in upper case."""
        found: dict[str, int] = {}
        for position, own in enumerate(self.names):
            approved, _ = canonical(own)
            found.setdefault(approved.upper(), position)
        # A name of the space has priority over a previous symbol of another gene of the space.
        found.update((own.upper(), i) for i, own in reversed(list(enumerate(self.names))))
        return found

    def _find_approved(self, symbol: str) -> int:
        """Return the position of the gene with this approved symbol; -1 if the space lacks it."""
        return self._position.get(symbol, self._by_canonical.get(symbol.upper(), -1))

    def _find(self, name: str) -> tuple[int, str]:
        """Return the position of the gene called ``name`` and how it was found; -1 if the space lacks it."""
        if name in self._position:
            return self._position[name], "exact"
        name = strip_genome(name)
        if name in self._position:
            return self._position[name], "exact"
        if name.isdecimal():  # a row number; some aliases are numbers, too
            return -1, ""
        bare = strip_version(name)
        if bare in self._position:
            return self._position[bare], "version"
        if not self.aliases and id_kind_of([bare]) == self.id_kind == "symbol":
            return -1, ""
        if bare.upper() in self._by_canonical and self.names[self._by_canonical[bare.upper()]].upper() == bare.upper():
            # Cd3e is a gene of mouse: human genes in other letter case are all upper or all lower case.
            own = self.names[self._by_canonical[bare.upper()]]
            foreign = foreign_species([bare]) or foreign_species([own])
            return (-1, "") if foreign else (self._by_canonical[bare.upper()], "case")
        approved, how = canonical(bare)
        position = self._by_canonical.get(approved.upper(), -1)
        if how == "unknown" or position < 0:
            return -1, ""
        translated = how == "ensembl" or (self.id_kind == "ensembl" and how not in ("previous", "alias"))
        return position, "ensembl" if translated else "previous" if how == "previous" else "alias"


@dataclass(frozen=True, eq=False)
class GeneMap:
    """Map of the columns of data onto a gene space.

    Attributes
    ----------
    target
        Position in the space of each column's gene, -1 if the space lacks it, int32 (n_columns,).
    space
        The gene space.
    source
        Where the names come from: ``"var_names"`` or a column of ``var``.
    via
        Number of columns by how their gene was found: ``exact``, ``version``, ``case``, ``ensembl``, ``previous``,
        ``alias``, or ``ortholog`` for genes of mouse in a space of human genes.
    measured
        Genes of the space that the data have, bool (len(space),).
    examples
        First names of the data, for messages.
    organism
        Organism of the genes of the data.
    mapped
        Columns with a human orthologue, in the space or not, bool (n_columns,). None: the genes were not mapped to
        those of another organism.
    notes
        What the names were read without, in words.
    """

    target: np.ndarray
    space: GeneSpace
    source: str
    via: dict[str, int]
    measured: np.ndarray
    examples: tuple[str, ...] = ()
    organism: Organism = "human"
    mapped: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_matched(self) -> int:
        """Number of genes of the space that the data have."""
        return int(self.measured.sum())

    @property
    def fraction(self) -> float:
        """Share of the space's genes that the data have."""
        return self.n_matched / len(self.space)

    @property
    def has_duplicates(self) -> bool:
        """Whether several columns are the same gene."""
        return int((self.target >= 0).sum()) > self.n_matched

    @cached_property
    def repeated(self) -> np.ndarray:
        """Columns whose gene has other columns, bool (n_columns,)."""
        found = self.target >= 0
        n_columns = np.bincount(self.target[found], minlength=len(self.space))
        return found & (n_columns[self.target] > 1)

    def align(self, X: Any, *, logged: bool = False) -> csr_matrix:
        """Put the columns of ``X`` in the order of the space; missing genes are 0, repeated genes are summed.

        Parameters
        ----------
        X
            ndarray, or CSR or CSC matrix or array, (n_cells, n_columns).
        logged
            Whether values are log1p values, of which repeated genes are summed on the linear scale.

        Returns
        -------
        float32 CSR matrix (n_cells, len(space)) with sorted indices, which shares no memory with ``X``.
        """
        return in_order(X, self.target, len(self.space), sums=self.has_duplicates, logged=logged)

    def check(self, *, floor: int = MIN_GENES, comfortable: float = COMFORTABLE_FRACTION) -> None:
        """Raise if the data have fewer than ``floor`` genes of the space; warn below the share ``comfortable``.

        Raises
        ------
        ValueError
            The data have fewer than ``floor`` genes of the space, and fewer than half of its genes.
        """
        for note in self.notes:
            warn(note)
        floor = min(floor, (len(self.space) + 1) // 2)
        have = f"{self.n_matched:,} of the encoder's {len(self.space):,} genes ({self.fraction:.1%})"
        if self.n_matched < floor:
            raise ValueError(
                f"The data have {have}, fewer than the {floor:,} needed. Their {self.source} begin with "
                f"{', '.join(map(repr, self.examples))}; the encoder's genes with "
                f"{', '.join(map(repr, self.space.names[:5]))}. If a column of var has the gene names, name it with "
                "gene_column=; if the genes were filtered, use the unfiltered data."
            )
        if self.fraction < comfortable:
            warn(
                f"The data have {have}, less than the {comfortable:.0%} that reliable results need. Use all genes "
                "that were measured, not a selection."
            )
