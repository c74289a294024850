"""Promises of the package as a whole: its public names, its imports, its rooms, the size of its files."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import scim

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "scim"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PUBLIC_MODULES = ["datasets", "get", "pp", "tl"]

#: Room -> rooms that it may import. Everybody may use COMMON; the command line and the demo stand above all.
MAY_IMPORT = {
    "genes": set(),
    "_counts": {"genes"},
    "ontology": set(),
    "encoder": {"genes"},
    "model": {"encoder", "ontology", "genes"},
    "reference": {"encoder", "ontology", "genes"},
    "pp": {"genes", "ontology"},
    "tl": {"reference", "encoder", "ontology", "genes"},
    "pl": {"reference", "encoder", "ontology", "genes"},
    "get": set(),
    "datasets": set(),
}
COMMON = {"_keys", "_validate", "_chunks", "_progress", "_counts"}
ON_TOP = {"cli", "_demo", "__init__"}
#: Third parties that `import scim` must not load, for they cost seconds or may be missing.
HEAVY = [
    "torch",
    "scvi",
    "faiss",
    "scanpy",
    "owlready2",
    "matplotlib",
    "numba",
    "pynndescent",
    "sklearn",
    "pyarrow",
    "duckdb",
]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def public_objects() -> Iterator[tuple[str, Any]]:
    for name in scim.__all__:
        thing = getattr(scim, name)
        if isinstance(thing, ModuleType):
            for inner in getattr(thing, "__all__", []):
                yield f"{name}.{inner}", getattr(thing, inner)
        else:
            yield name, thing


def public_callables() -> Iterator[tuple[str, Any]]:
    """Functions of the modules, classes, and the methods that the classes themselves define."""
    for name, thing in public_objects():
        if inspect.isclass(thing):
            yield name, thing
            for method, raw in vars(thing).items():
                function = raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw
                if not method.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{method}", function
        elif callable(thing):
            yield name, thing


def imports(path: Path) -> Iterator[tuple[str, bool, bool]]:
    """Yield every imported module of a file by its absolute name; whether at the top level; whether for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["scim", *path.relative_to(PACKAGE).parent.parts]

    def visit(node: ast.AST, top: bool, typing: bool) -> Iterator[tuple[str, bool, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield alias.name, top, typing
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                module = ".".join([*base, *([child.module] if child.module else [])])
                if child.module:
                    yield module, top, typing
                if not child.module or module == "scim":
                    for alias in child.names:
                        yield f"{module}.{alias.name}", top, typing
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                yield from visit(child, top, True)
            else:
                inner = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, top and not inner, typing)

    yield from visit(tree, True, False)


def test_public_names_load() -> None:
    assert set(scim.__all__) == {
        "SCIM",
        "CellOntology",
        "Encoder",
        "Reference",
        "datasets",
        "get",
        "install_reference",
        "pp",
        "push_reference",
        "references",
        "tl",
    }
    assert set(scim.__all__) < set(dir(scim))
    for name in scim.__all__:
        assert getattr(scim, name) is not None
    for verb in ("embed", "annotate", "query"):
        assert verb in scim.tl.__all__


def test_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert scim.__version__ == project["version"]
    assert f"version: {project['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Encodr'"):
        _ = scim.Encodr


def test_every_public_module_lists_its_names() -> None:
    for name in PUBLIC_MODULES:
        module = importlib.import_module(f"scim.{name}")
        assert module.__all__, name
        assert all(hasattr(module, inner) for inner in module.__all__)


def test_public_callables_are_documented_and_annotated() -> None:
    missing = []
    for name, thing in public_callables():
        text = inspect.getdoc(thing) or ""
        if not text:
            missing.append(f"{name}: no docstring")
        # Classes and the functions of the modules show how they are used; methods may lean on their class.
        if "." not in name or not inspect.isclass(getattr(scim, name.split(".")[0])):
            if "Examples\n---" not in text:
                missing.append(f"{name}: no Examples")
        if inspect.isclass(thing):
            continue
        signature = inspect.signature(thing)
        if signature.return_annotation is inspect.Signature.empty:
            missing.append(f"{name}: no return annotation")
        missing += [
            f"{name}: {parameter} has no annotation"
            for parameter, value in signature.parameters.items()
            if value.annotation is inspect.Parameter.empty and parameter not in ("self", "cls")
        ]
    assert not missing, "\n".join(missing)


def test_every_parameter_of_a_public_function_is_documented() -> None:
    missing = [
        f"{name}: {parameter}"
        for name, thing in public_callables()
        if not inspect.isclass(thing) and "." in name and not inspect.isclass(getattr(scim, name.split(".")[0]))
        for parameter in inspect.signature(thing).parameters
        if parameter not in (inspect.getdoc(thing) or "")
    ]
    assert not missing, "\n".join(missing)


def test_every_public_name_is_in_the_reference_pages() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = {line.strip() for line in page.splitlines()}
    missing = [name for name, thing in public_objects() if callable(thing) and name not in listed]
    assert not missing, missing


def test_import_is_light() -> None:
    code = f"import sys, scim; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_command_line_help_is_light() -> None:
    code = (
        "import sys\nfrom scim.cli import app\ntry:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([m for m in [*{HEAVY}, 'anndata', 'pandas', 'numpy'] if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_whom_they_may(path: Path) -> None:
    here = room(path)
    wrong = []
    for name, _, typing in imports(path):
        parts = name.split(".")
        if parts[0] == "scvi" and here != "model":
            wrong.append(f"{name}: only model/ may import scvi")
        if parts[0] != "scim" or len(parts) < 2 or here in ON_TOP:
            continue
        other = parts[1]
        if other in ("tl", "cli") and other != here:
            wrong.append(f"{name}: nothing imports {other}")
        elif other not in {here, *COMMON, *MAY_IMPORT.get(here, set())} and not typing and (PACKAGE / other).exists():
            wrong.append(f"{name}: {here} may import {sorted(MAY_IMPORT.get(here, set()))}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_pickle(path: Path) -> None:
    names = {name.split(".")[0] for name, _, _ in imports(path)}
    assert not names & {"pickle", "dill", "cloudpickle", "joblib"}
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    for call in calls:
        if ast.unparse(call.func).endswith("torch.load"):
            assert {ast.unparse(k) for k in call.keywords} >= {"weights_only=True"}


def test_third_parties_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    spelled = {
        "pytorch_metric_learning": "pytorch-metric-learning",
        "sklearn": "scikit-learn",
        "scvi": "scvi-tools",
        "umap": "umap-learn",
        "faiss": "faiss-cpu",
    }
    declared = {r.partition(">")[0].partition("[")[0] for r in [*project["dependencies"], *extras]}
    wrong = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in SOURCES
        for name, _, _ in imports(path)
        if (top := name.split(".")[0]) not in sys.stdlib_module_names
        and top != "scim"
        and spelled.get(top, top) not in declared
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_is_over_500_lines() -> None:
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").glob("**/*.py")]
    long = {str(p.relative_to(ROOT)): n for p in files if (n := len(p.read_text().splitlines())) > 500}
    assert not long
