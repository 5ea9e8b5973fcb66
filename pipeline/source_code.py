"""Which code a stage's outputs come from: every definition that it reaches, with a hash of its meaning.

A comment, a docstring or another layout is no change; a constant, a call or a new import is. Definitions, not
modules: a training that borrows a constant from the decoder's module does not depend on the decoder.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.errors import CmgError
from pipeline.syntax import fingerprint, is_docstring

STAGES: Final = (
    "catalog",
    "labels",
    "spectrogram",
    "split",
    "train",
    "evaluate",
    "register",
    "promote",
    "report",
)
FOLDER: Final = Path("artifacts/code")
PACKAGES: Final = ("pipeline", "serving")
LOCK: Final = Path("requirements.lock")

# Modules without which every output would be the same.
EXEMPT: Final = {
    "pipeline.environment": "stops a stage that another Python runs",
    "pipeline.errors": "says why a stage failed, and a stage that fails has no outputs",
    "pipeline.messages": "keeps passwords out of what is printed and logged",
    "pipeline.params": "checks params.yaml and passes it on; its values are dependencies, key by key",
    "pipeline.source_code": "lists code; the stage that runs it, `code`, depends on every file",
    "pipeline.stage_run": "watches over a running stage",
    "pipeline.tracking": "records runs in MLflow; nothing that it returns is in an output",
}
EXEMPT_LIBRARIES: Final = {
    "filelock": "waits",
    "mlflow": "records runs; the registry lies beside the graph",
    "tqdm": "draws a progress bar",
}
_DISTRIBUTIONS: Final = {
    "PIL": "pillow",
    "crowdkit": "crowd-kit",
    "ruamel": "ruamel-yaml",
    "sklearn": "scikit-learn",
}

Code = dict[str, dict[str, str]]
Use = tuple[
    str, str
]  # a module and a name in it; "" for all of the module, "import" for what importing it does
_IMPORT: Final = "import"  # a keyword: no definition has this name


@dataclass
class _Module:
    """A module's top level: what its names are bound to, and the statements that bind none."""

    name: str
    is_package: bool
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)  # the name here -> pipeline.files.write_csv, say
    imported: list[str] = field(default_factory=list)  # all that its imports name, bound to a name or not
    others: list[ast.stmt] = field(default_factory=list)


def path_of(stage: str) -> Path:
    """Return the file that lists a stage's code."""
    return FOLDER / f"{stage}.json"


def code_of(*stages: str) -> dict[str, Code]:
    """Return, by stage, what its outputs depend on beside its data and parameters.

    Parameters
    ----------
    *stages
        Some of ``STAGES``.

    Returns
    -------
    dict
        For each stage ``code``: SHA-256 of each definition's syntax tree; ``files``: of the templates and
        tables beside the code, by their bytes; ``libraries``: the versions in ``requirements.lock`` of those
        that it imports.
    """
    for cached in (_module, _resolve, _uses_of, _project_files, _hash_of):
        cached.cache_clear()  # the files may be others than at the last call
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", _text(LOCK), re.MULTILINE))
    return {stage: _code_of(stage, locked) for stage in stages}


def _code_of(stage: str, locked: dict[str, str]) -> Code:
    uses, files, libraries = _reach([(f"pipeline.stages.{stage}", "")])
    named = {_DISTRIBUTIONS.get(name, name).replace("_", "-") for name in libraries - set(EXEMPT_LIBRARIES)}
    if unknown := sorted(named - locked.keys()):
        raise CmgError(
            f"{LOCK}: expected all that stage {stage} imports, received no {', '.join(unknown)}. "
            "Add it to pyproject.toml and run `make lock`."
        )
    return {
        "code": {".".join(filter(None, use)): _hash_of(use) for use in sorted(uses) if _nodes(use)},
        "files": {name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in sorted(files)},
        "libraries": {name: locked[name] for name in sorted(named)},
    }


def _reach(start: Iterable[Use]) -> tuple[set[Use], set[str], set[str]]:
    """Follow every use from definition to definition; return these, and the files and libraries they name."""
    todo, uses, files, libraries = list(start), set[Use](), set[str](), set[str]()
    while todo:
        use = todo.pop()
        if use not in uses and use[0] not in EXEMPT:
            uses.add(use)
            further, named, imported = _uses_of(use)
            todo += further
            files |= named
            libraries |= imported
    return uses, files, libraries


@functools.cache
def _uses_of(use: Use) -> tuple[list[Use], set[str], set[str]]:
    """Return the uses, files and libraries that a use leads to in one step."""
    module = _module(use[0])
    assert module is not None
    names = use[0].split(".")  # importing a module runs the packages that it lies in
    uses = [(".".join(names[:size]), _IMPORT) for size in range(1, len(names) + 1)]
    uses += [(use[0], name) for name in module.definitions] if not use[1] else []
    files, libraries = set[str](), set[str]()
    imported = list(module.imported)
    for node in _nodes(use):
        parts = list(ast.walk(node))
        imports = [part for part in parts if isinstance(part, ast.Import | ast.ImportFrom)]
        imported += [name for statement in imports for name in _imported(statement, module)]
        for dotted in _dotted_names(parts, module):
            found = _resolve(dotted)
            uses += [found] if found else []
            libraries |= set() if found else {dotted.partition(".")[0]} - sys.stdlib_module_names
        for name in _files_named_in(parts):
            is_module = name.endswith(".py")
            uses += [(name[:-3].replace("/", ".").removesuffix(".__init__"), "")] if is_module else []
            files |= set() if is_module else {name}
    # What a module does when it is imported counts, whether a name of it is used or not.
    uses += [(found[0], _IMPORT) for found in map(_resolve, imported) if found]
    return uses, files, libraries


def _nodes(use: Use) -> list[ast.stmt]:
    """Return the statements of a use."""
    module = _module(use[0])
    assert module is not None
    if use[1] == _IMPORT:
        # Not `if __name__ == "__main__"`, which importing does not run.
        return [
            node
            for node in module.others
            if not (isinstance(node, ast.If) and "__name__" in ast.dump(node.test))
        ]
    return module.definitions.get(use[1], [])  # none of all of a module: each is a use of its own


@functools.cache
def _module(name: str) -> _Module | None:
    """Parse a module of the project; None if it has no such module."""
    base = Path(*name.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if name.partition(".")[0] not in PACKAGES or not path.is_file():
        return None
    module = _Module(name, is_package=base.is_dir())
    for node in ast.parse(_text(path)).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imports |= _bindings(node, module)
            module.imported += _imported(node, module)
        elif names := _names_bound(node):
            for name in names:
                module.definitions.setdefault(name, []).append(node)
        elif not (is_docstring(node) or "TYPE_CHECKING" in ast.dump(getattr(node, "test", node))):
            module.others.append(node)
    return module


def _names_bound(node: ast.stmt) -> list[str]:
    """Return the names that a statement at a module's top level defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = getattr(node, "targets", [getattr(node, "target", None)]) if hasattr(node, "value") else []
    parts = [part for target in targets if target for part in ast.walk(target)]
    return [part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]


def _bindings(node: ast.Import | ast.ImportFrom, module: _Module) -> dict[str, str]:
    """Return what an import binds: the name here, and what it stands for."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: alias.name
            if alias.asname
            else alias.name.partition(".")[0]
            for alias in node.names
        }
    package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
    above = package[: len(package) - node.level + 1] if node.level else []
    base = ".".join([*above, *([node.module] if node.module else [])])
    return {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}


def _imported(node: ast.Import | ast.ImportFrom, module: _Module) -> list[str]:
    """Return the full names of what an import loads."""
    is_plain = isinstance(node, ast.Import)
    return [alias.name for alias in node.names] if is_plain else list(_bindings(node, module).values())


def _dotted_names(parts: list[ast.AST], module: _Module) -> set[str]:
    """Return what a statement names from elsewhere or from its module's top level, as full dotted names."""
    bound, found = dict(module.imports), set[str]()
    for part in parts:
        if isinstance(part, ast.Import | ast.ImportFrom):  # within a function
            bound |= _bindings(part, module)
    inner = {id(part.value) for part in parts if isinstance(part, ast.Attribute)}
    for part in parts:
        if isinstance(part, ast.Name | ast.Attribute) and id(part) not in inner:
            first, _, rest = _unrolled(part).partition(".")
            if first in bound:
                found.add(f"{bound[first]}.{rest}".rstrip("."))
            elif first in module.definitions:
                found.add(f"{module.name}.{first}")
            elif first == "__name__":  # somebody will look definitions up by this name
                found.add(module.name)
    return found


def _unrolled(node: ast.AST) -> str:
    """Return ``a.b.c`` of an attribute of an attribute of a name; blank if it begins with something else."""
    if isinstance(node, ast.Name):
        return node.id
    if not isinstance(node, ast.Attribute):
        return ""
    return f"{base}.{node.attr}" if (base := _unrolled(node.value)) else ""


@functools.cache
def _resolve(dotted: str) -> Use | None:
    """Return the definition that a full dotted name means; None if it is not of this project."""
    parts = dotted.split(".")
    # The longest prefix first: pipeline.files may be a module, and pipeline has names of its own.
    for size in range(len(parts), 0, -1):
        module = _module(".".join(parts[:size]))
        if module is None:
            continue
        name = parts[size] if size < len(parts) else ""
        if name in module.definitions:
            return module.name, name
        if name in module.imports:  # passed on from another module
            return _resolve(".".join([module.imports[name], *parts[size + 1 :]]))
        return module.name, ""
    return None


@functools.cache
def _project_files() -> dict[str, list[str]]:
    """Return the files that a string may mean: a path, or the name of a file or folder that is no module."""
    found: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in sorted(Path(package).rglob("*")):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            # Not the packages themselves: "serving" is a word that a stage may say.
            above = [parent.as_posix() for parent in path.parents if parent != Path()]
            keys = [path.as_posix(), *(name for name in above if name not in PACKAGES)]
            keys += [path.with_suffix("").as_posix()] if path.suffix == ".py" else [path.name]
            keys += [] if (path.parent / "__init__.py").exists() else [path.parent.name]
            for key in keys:
                found.setdefault(key, []).append(path.as_posix())
    return found


def _files_named_in(parts: list[ast.AST]) -> set[str]:
    """Return the project's files that strings name, and those that templates among these name."""
    known, files = _project_files(), set[str]()
    for text in _texts(parts):
        files.update(known.get(text, ()) or known.get(text.replace(".", "/"), ()))
    todo = [path for path in files if path.endswith(".j2")]
    templates = {name: paths for name, paths in known.items() if name.endswith(".j2") and "/" not in name}
    while todo:
        text = _text(Path(todo.pop()))
        included = {path for name, paths in templates.items() if name in text for path in paths} - files
        files |= included
        todo += included
    return files


def _texts(parts: list[ast.AST]) -> Iterator[str]:
    """Yield the strings of a statement; those that ``/`` joins to a path as one."""
    inner: set[int] = set()
    for part in parts:  # the outer ones first
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Div):
            if id(part) not in inner:
                yield "/".join(_joined(part))
            inner |= {id(part.left), id(part.right)}
        elif isinstance(part, ast.Constant) and isinstance(part.value, str) and id(part) not in inner:
            yield part.value


def _joined(node: ast.AST) -> list[str]:
    """Return the strings of ``folder / "a" / "b.txt"``."""
    if isinstance(node, ast.BinOp):
        return [*_joined(node.left), *_joined(node.right)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


@functools.cache
def _hash_of(use: Use) -> str:
    return fingerprint(*_nodes(use))[:32]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
