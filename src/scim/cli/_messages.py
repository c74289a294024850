"""What errors and warnings of the package say, in words of the command line."""

from __future__ import annotations

import re

#: Arguments that have an option of their name.
_SAME = (
    "labels_key",
    "study_key",
    "gene_column",
    "max_epochs",
    "triplet_weight",
    "use_rep",
    "key_added",
    "novelty_fdr",
    "max_distance",
    "max_per_group",
)
#: Arguments of short names, which are recognised where a value follows.
_SHORT = ("backend", "by", "groupby", "landmarks", "vote")
#: What is named otherwise, or done otherwise.
_OTHER = {
    "batch_key": "--study-key",
    "obs_columns": "--obs-column",
    "overwrite=True": "--overwrite",
    "resume=False": "--fresh",
    "check_labels=False": "--keep-labels",
    "labels=": "--label",
    "Leave labels out": "Leave --label out",
    "where= or exclude=": "--where or --exclude",
    "with name=": "with --name",
    "where:": "--where:",
    "exclude:": "--exclude:",
    "where names the column": "--where names the column",
    "exclude names the column": "--exclude names the column",
    "Use the study_key of scim.pp.merge_studies as batch_key": "Leave --study-key out, and each file is a study",
    "scim.pp.harmonize_labels": "--harmonize",
    'their terms; ontology="flat" says that this is meant': "their terms",
    "Give them one with table=, or leave them": "Rename them in the files, or leave them",
    "Embed the cells with the reference's: scim.tl.embed(adata, reference), after del": (
        "`scim annotate --key-added NAME` embeds them anew, and so does scim after, in Python, del"
    ),
    "Reference.reindex()": "`scim reindex`",
    'Reference.build(landmarks="simulated")': "`scim build --landmarks simulated`",
    "See client.cluster.scale(), and": "Start one (dask worker), or see",
    "Give the same one with ontology=": "Add the cells in Python, with the same one as ontology=",
}
_HERE = {name: "--" + name.replace("_", "-") for name in _SAME} | {f"{name}=": f"--{name}=" for name in _SHORT} | _OTHER
# The longest that fits. Names in paths, quotes and other names are none, and no option ends in an equals sign.
_PYTHON = re.compile(
    r"(?<![\w/'\"\[.-])("
    + "|".join(re.escape(name) + r"\b" * name[-1].isalnum() for name in sorted(_HERE, key=len, reverse=True))
    + r")(?:=(?=[\s.,;)]|$))?"
)


def one_line(error: BaseException) -> str:
    """Return the message of an error, and its notes, translated, and without the quotes that KeyError adds.

    Examples
    --------
    >>> one_line(KeyError("labels_key='x' is not in obs."))
    "--labels-key='x' is not in obs."
    >>> one_line(FileExistsError("Choose another path, or pass overwrite=True."))
    'Choose another path, or pass --overwrite.'
    """
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    return translated(" ".join([str(message), *getattr(error, "__notes__", ())])) or type(error).__name__


def translated(text: str) -> str:
    """Put a message on one line, with options in place of the arguments that it names.

    Examples
    --------
    >>> translated("Name the study of each cell with batch_key.")
    'Name the study of each cell with --study-key.'
    """
    return _PYTHON.sub(lambda found: _HERE[found[1]], " ".join(text.split()))
