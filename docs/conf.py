"""Sphinx configuration."""

from __future__ import annotations

import importlib.metadata
import socket
from typing import Any

project = "scim"
author = "The scim developers"
copyright = "2026, The scim developers"
release = importlib.metadata.version("scim-tools")
version = release

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "recipes", "**.ipynb_checkpoints"]
# The first one is what autosummary writes its pages in.
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}

html_theme = "sphinx_book_theme"
html_title = "scim"
html_static_path = ["_static"]
html_theme_options = {"path_to_docs": "docs", "show_toc_level": 2}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# The code of the guide is run by tests/test_docs_example.py, not by every build of the pages. plots.md asks for its own
# execution, which draws its figures.
nb_execution_mode = "off"

autosummary_generate = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": True}
napoleon_google_docstring = False
napoleon_numpy_docstring = True
# A return value is described in words as often as by a type; words are no cross-references.
napoleon_use_rtype = False
napoleon_preprocess_types = False
templates_path = ["_templates"]

_INVENTORIES = {
    "anndata": ("https://anndata.readthedocs.io/en/stable", None),
    "matplotlib": ("https://matplotlib.org/stable", None),
    "mudata": ("https://mudata.readthedocs.io/en/latest", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "pandas": ("https://pandas.pydata.org/docs", None),
    "python": ("https://docs.python.org/3", None),
    "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
    "scipy": ("https://docs.scipy.org/doc/scipy", None),
    "scvi": ("https://docs.scvi-tools.org/en/stable", None),
    "torch": ("https://docs.pytorch.org/docs/stable", None),
}


def _online() -> bool:
    try:
        with socket.create_connection(("docs.python.org", 443), timeout=3):
            return True
    except OSError:
        return False


# Without a network the pages build as well, only without links into other projects.
intersphinx_mapping = _INVENTORIES if _online() else {}

nitpicky = True
# Names of other projects: checked where their inventories can be reached, not demanded where they cannot.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(anndata|AnnData|mudata|MuData|numpy|np|pandas|pd|scipy|sp|torch|scvi|lightning|pyarrow|pa|pc|tqdm|typer"
        r"|matplotlib|scanpy|Axes|Figure|collections|typing|types|pathlib|os|abc|logging|h5py|dask)(\..*)?",
    ),
    # Builtins and standard library, in case docs.python.org cannot be reached.
    (
        r"py:.*",
        r"(str|int|float|bool|bytes|dict|list|tuple|set|frozenset|object|type|None|slice|property|Path|PathLike|Any|Mapping"
        r"|MutableMapping|Sequence|Iterable|Iterator|Callable|Literal|Self|ClassVar|Final|[A-Z][A-Za-z]*(Error|Warning)"
        r"|Exception|BaseException|KeyboardInterrupt|NDArray|ndarray|DataFrame|Series|Tensor|csr_matrix|csr_array)",
    ),
]
nitpick_ignore = [
    ("py:attr", "history"),  # of scvi-tools' models
    ("py:class", "Vote"),  # a Literal, spelt out in the text
    ("py:class", "LandmarkKind"),
    ("py:class", "OrganismChoice"),
    ("py:class", "scim.reference._snapshot.Snapshot"),  # one version, which Reference holds
    ("py:class", "scim.reference.cells._metadata.CellTable"),  # what Reference.obs is, read like a DataFrame
    ("py:class", "scim.labels._model.MatchedModel"),  # what tl.annotate works with
    ("py:class", "CalibrationKind"),
    ("py:class", "Nearest"),
    ("py:class", "Calibration"),
    ("py:class", "Index"),
    ("py:class", "LabelledLandmarks"),
    ("py:class", "scim.labels._landmarks.Landmarks"),
    ("py:class", "scim.labels._novelty.Profiles"),
]


def _public_name(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Resolve a reference to where a class is written to the page of its public name."""
    parts = node.get("reftarget", "").split(".")
    if parts[0] != "scim":
        parts = ["scim", *parts]
    public = [part for part in parts if not part.startswith("_")]
    domain = env.get_domain("py")
    for name in (public, [public[0], *public[2:]]):
        found = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", ".".join(name), node, contnode)
        if found is not None:
            return found
    return None


def setup(app: Any) -> None:
    app.connect("missing-reference", _public_name)
