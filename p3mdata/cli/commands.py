"""The lines of `p3mdata --help`, read from the sources of the commands' modules without importing them.

A module, with the libraries that its commands need, is imported when one of them is called.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from typing import Any, NamedTuple

import typer

# Panels of the help, and the module of `p3mdata.cli` that holds the commands of each.
PANELS = {
    "From photographs to a run": "runs",
    "A finished run and people": "people",
    "Datasets": "datasets",
    "Networks": "training",
    "Tools": "tools",
}


class Line(NamedTuple):
    """A command in the help: what it is for is the first paragraph of its docstring."""

    name: str
    about: str
    panel: str


def lines() -> Iterator[Line]:
    """Lines of all commands, by panel, in the order of their definition."""
    for panel, module in PANELS.items():
        spec = importlib.util.find_spec(f"p3mdata.cli.{module}")
        assert spec is not None and isinstance(spec.loader, SourceFileLoader)
        for name, about in _declared(ast.parse(spec.loader.get_data(spec.loader.path))):
            yield Line(name, about, panel)


def _declared(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names and docstrings of `@app.command`, names and helps of `app.add_typer`."""
    helps: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "app.command":
                    given = [ast.literal_eval(name) for name in call.args]
                    about = (ast.get_docstring(node) or "").split("\n\n", maxsplit=1)[0]
                    yield given[0] if given else node.name.replace("_", "-"), " ".join(about.split())
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            helps[ast.unparse(node.targets[0])] = _keyword(node.value, "help")
        elif (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "app.add_typer"
        ):
            yield _keyword(node.value, "name"), helps[ast.unparse(node.value.args[0])]


def _keyword(call: ast.Call, name: str) -> str:
    return next((ast.literal_eval(word.value) for word in call.keywords if word.arg == name), "")


def load(panel: str, name: str) -> Any:
    """A command itself."""
    return typer.main.get_group(importlib.import_module(f"p3mdata.cli.{PANELS[panel]}").app).commands[name]
