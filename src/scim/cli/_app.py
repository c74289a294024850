"""The application: its commands, and how they report errors, warnings and interrupts."""

from __future__ import annotations

import logging
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import _progress
from ._build import add, build, compact, reindex, remove
from ._demo import demo
from ._messages import Words
from ._references import info, install_reference, push_reference, references, verify
from ._train import train
from ._verbs import annotate, query

#: Seconds between lines of progress, if standard error is not a terminal.
_LOG_SECONDS = 60.0
_USER_ERRORS = (ValueError, KeyError, TypeError, OSError, ImportError)
_PACKAGE = str(Path(__file__).resolve().parents[1])

_EPILOG = (
    "Exit status: 0 success; 1 an error in the input, explained in one line; 2 an error in the command line; "
    "130 interrupted."
)


class _Group(TyperGroup):
    """Commands that report an error of the user in one line; with ``--debug``, in any place, as a traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if "--debug" in args:
            args = ["--debug", *(a for a in args if a != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        debug = bool(ctx.params.get("debug"))
        with warnings.catch_warnings():
            if not debug:
                self._show_only_warnings_of_scim()
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt as stop:
                if debug:
                    raise
                kept = " ".join(getattr(stop, "__notes__", ())) or "no incomplete results were left."
                typer.echo(f"scim: interrupted; {kept}", err=True)
                raise typer.Exit(130) from None
            except BrokenPipeError:
                raise
            except _USER_ERRORS as error:
                # If a module of scim is missing, the fault is not the user's.
                ours = isinstance(error, ImportError) and str(error.name or "").partition(".")[0] == "scim"
                if debug or ours:
                    raise
                typer.echo(f"scim: error: {Words(self.commands).one_line(error)}", err=True)
                raise typer.Exit(1) from None

    def _show_only_warnings_of_scim(self) -> None:
        words, shown = Words(self.commands), set()

        # Warnings of scim are for users, each once. Those of other packages are for programmers.
        def show(message: Warning | str, category: type[Warning], filename: str, *_: object, **__: object) -> None:
            text = words.translated(str(message))
            if filename.startswith(_PACKAGE) and issubclass(category, UserWarning) and text not in shown:
                shown.add(text)
                typer.echo(f"scim: warning: {text}", err=True)

        warnings.simplefilter("default")
        warnings.showwarning = show
        for name in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning"):
            logging.getLogger(name).setLevel(logging.ERROR)


app = typer.Typer(
    name="scim",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=_EPILOG,
)


def _version(value: bool) -> None:
    if value:
        from .._version import scim_version

        typer.echo(f"scim-tools {scim_version()}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and all warnings.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find similar cells: train an encoder, build a reference, annotate and query new data.

    Each command does the same as the Python function of its name, on .h5ad files.
    Start with: scim demo
    """
    _progress.log_every = _LOG_SECONDS


_EXAMPLES: dict[Callable[..., None], str] = {
    demo: """
        scim demo
        scim demo --data study.h5ad --labels-key cell_type --out results""",
    train: """
        scim train zheng.h5ad symphony.h5ad --labels-key cell_type --harmonize --out blood.encoder
        scim train atlas.h5ad --labels-key cell_type --study-key study --layer counts --out atlas.encoder""",
    build: """
        scim build zheng.h5ad symphony.h5ad --labels-key cell_type --harmonize --encoder blood.encoder --out blood.scim
        scim build atlas.h5ad --labels-key cell_type --study-key study --obs-column tissue --obs-column disease
            --encoder atlas.encoder --out atlas.scim
        scim build studies/ --labels-key cell_type --encoder atlas.encoder --out atlas.scim --workers 8""",
    add: """
        scim add atlas.scim new-study.h5ad
        scim add atlas.scim 'more/*/counts.h5ad' --labels-key author_cell_type --harmonize""",
    remove: """
        scim remove atlas.scim --where donor=D7
        scim remove atlas.scim --where study=withdrawn && scim compact atlas.scim""",
    compact: """
        scim compact atlas.scim""",
    reindex: """
        scim reindex atlas.scim""",
    annotate: """
        scim annotate new.h5ad --out annotated.h5ad
        scim annotate new.h5ad --reference blood.scim --out annotated.h5ad
        scim annotate new.h5ad --by leiden --alpha 0.05 --out annotated.h5ad
        scim annotate new.h5ad --reference atlas.scim --where tissue=lung --where tissue=blood --out labels.csv""",
    query: """
        scim query new.h5ad --reference atlas.scim --groupby leiden --out hits.parquet
        scim query new.h5ad --reference atlas.scim --groupby leiden --exclude disease=normal --k 200 --out hits.csv""",
    references: """
        scim references""",
    install_reference: """
        scim install-reference lung.scim.tar.gz --sha256 6f1e... --name lung
        scim install-reference hf://me/lung@0123456789abcdef0123456789abcdef01234567""",
    push_reference: """
        scim push-reference lung.scim me/lung""",
    verify: """
        scim verify atlas.scim
        scim verify blood --quick""",
    info: """
        scim info blood.scim
        scim info new.h5ad --json""",
}
for _command, _lines in _EXAMPLES.items():
    # The control character keeps the lines that follow from being wrapped.
    app.command(epilog="\b\nExamples:\n" + textwrap.indent(textwrap.dedent(_lines).strip(), "  "))(_command)


def main() -> None:
    """Run the command line; the entry point of the script ``scim``."""
    app(prog_name="scim", args=sys.argv[1:])
