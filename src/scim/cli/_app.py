"""The application: its commands, and how errors, warnings and interrupts reach the shell."""

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
from . import _build as _building
from . import _train as _training
from . import _verbs as _commands
from ._messages import one_line, translated

_USER_ERRORS = (ValueError, KeyError, TypeError, OSError, ImportError)
_PACKAGE = str(Path(__file__).resolve().parents[1])

_EPILOG = (
    "Exit status: 0 done; 1 the input cannot be used (one line says why); "
    "2 the command line cannot be read; 130 interrupted."
)


class _Group(TyperGroup):
    """Commands whose user errors are one line on stderr; ``--debug`` anywhere brings the traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if "--debug" in args:
            args = ["--debug", *(a for a in args if a != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        debug = bool(ctx.params.get("debug"))
        with warnings.catch_warnings():
            if not debug:
                _quieten_third_parties()
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt as stop:
                if debug:
                    raise
                kept = " ".join(getattr(stop, "__notes__", ())) or "nothing half-written was left."
                typer.echo(f"scim: interrupted; {kept}", err=True)
                raise typer.Exit(130) from None
            except BrokenPipeError:
                raise
            except _USER_ERRORS as error:
                # A missing part of scim itself is a fault of scim, not of its user.
                ours = isinstance(error, ImportError) and str(error.name or "").partition(".")[0] == "scim"
                if debug or ours:
                    raise
                typer.echo(f"scim: error: {one_line(error)}", err=True)
                raise typer.Exit(1) from None


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


#: Seconds between lines on how far a command is, where standard error is no terminal.
_LOG_EVERY = 60.0


def _version(value: bool) -> None:
    if value:
        from .._version import scim_version

        typer.echo(f"scim-tools {scim_version()}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and all warnings.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Find similar cells: train an encoder, build a reference, annotate and query new data.

    Every command reads .h5ad files and does what the Python function of the same name does.
    Begin with: scim demo
    """
    _progress.log_every = _LOG_EVERY


_EXAMPLES: dict[Callable[..., None], str] = {
    _training.demo: """
        scim demo
        scim demo --data study.h5ad --labels-key cell_type --out results""",
    _training.train: """
        scim train zheng.h5ad symphony.h5ad --labels-key cell_type --harmonize --out blood.encoder
        scim train atlas.h5ad --labels-key cell_type --study-key study --layer counts --out atlas.encoder""",
    _building.build: """
        scim build zheng.h5ad symphony.h5ad --labels-key cell_type --harmonize --encoder blood.encoder --out blood.scim
        scim build atlas.h5ad --labels-key cell_type --study-key study --obs-column tissue --obs-column disease
            --encoder atlas.encoder --out atlas.scim
        scim build studies/ --labels-key cell_type --encoder atlas.encoder --out atlas.scim --workers 8""",
    _building.add: """
        scim add atlas.scim new-study.h5ad
        scim add atlas.scim 'more/*/counts.h5ad' --labels-key author_cell_type --harmonize""",
    _building.remove: """
        scim remove atlas.scim --where donor=D7
        scim remove atlas.scim --where study=withdrawn && scim compact atlas.scim""",
    _building.compact: """
        scim compact atlas.scim""",
    _building.reindex: """
        scim reindex atlas.scim""",
    _commands.annotate: """
        scim annotate new.h5ad --out annotated.h5ad
        scim annotate new.h5ad --reference blood.scim --out annotated.h5ad
        scim annotate new.h5ad --by leiden --alpha 0.05 --out annotated.h5ad
        scim annotate new.h5ad --reference atlas.scim --where tissue=lung --where tissue=blood --out labels.csv""",
    _commands.query: """
        scim query new.h5ad --reference atlas.scim --groupby leiden --out hits.parquet
        scim query new.h5ad --reference atlas.scim --groupby leiden --exclude disease=normal --k 200 --out hits.csv""",
    _commands.references: """
        scim references""",
    _commands.install_reference: """
        scim install-reference lung.scim.tar.gz --sha256 6f1e... --name lung
        scim install-reference hf://me/lung@0123456789abcdef0123456789abcdef01234567""",
    _commands.push_reference: """
        scim push-reference lung.scim me/lung""",
    _commands.verify: """
        scim verify atlas.scim
        scim verify blood --quick""",
    _commands.info: """
        scim info blood.scim
        scim info new.h5ad --json""",
}
for _command, _lines in _EXAMPLES.items():
    # The control character keeps the help from wrapping the lines that follow it.
    app.command(epilog="\b\nExamples:\n" + textwrap.indent(textwrap.dedent(_lines).strip(), "  "))(_command)


def _quieten_third_parties() -> None:
    said = set()

    # What scim itself warns of is for the user, once; trainers and readers below it talk to programmers.
    def show(message: Warning | str, category: type[Warning], filename: str, *_: object, **__: object) -> None:
        text = translated(str(message))
        if filename.startswith(_PACKAGE) and issubclass(category, UserWarning) and text not in said:
            said.add(text)
            typer.echo(f"scim: warning: {text}", err=True)

    warnings.simplefilter("default")
    warnings.showwarning = show
    for name in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)


def main() -> None:
    """Run the command line; the entry point of the script ``scim``."""
    app(prog_name="scim", args=sys.argv[1:])
