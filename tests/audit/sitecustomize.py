"""Record what a stage's process reads; Python imports this by itself, if its folder is on PYTHONPATH.

Each line of ``$CMG_AUDIT/<stage>.txt`` is ``open PATH``, ``list FOLDER``, ``call NAME`` or ``param KEY``.
Written line by line, since the workers of a pool leave without saying so.
"""

from __future__ import annotations

import ast
import builtins
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

PREFIXES = {  # of the keys of params.yaml, by the class of pipeline.params that holds them
    "Params": "",
    "CatalogParams": "catalog.",
    "LabelsParams": "labels.",
    "IntakeParams": "intake.",
    "SpectrogramParams": "spectrogram.",
    "SplitParams": "split.",
    "TrainParams": "train.",
    "SpecAugmentParams": "train.specaugment.",
    "ModelParams": "train.models.*.",
    "ProbeParams": "train.models.*.",
    "EvaluateParams": "evaluate.",
    "PromoteParams": "promote.",
}
# Accesses on the way to a key.
SECTIONS = {
    "catalog",
    "labels",
    "intake",
    "spectrogram",
    "split",
    "train",
    "evaluate",
    "promote",
    "train.specaugment",
    "train.models",
}


def _start(log: str) -> None:
    root, said = f"{Path.cwd()}/", set()
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(line: str) -> None:
        if line not in said:
            said.add(line)
            os.write(handle, (line + "\n").encode())

    def hook(event: str, arguments: tuple) -> None:
        if event in ("open", "os.listdir", "os.scandir", "glob.glob"):
            path = arguments[0]
            if isinstance(path, bytes | str | os.PathLike):
                path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a link is not followed
                writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & 3 == os.O_WRONLY
                # What is not there is a name relative to a folder that is open, or was only looked for.
                if path.startswith(root) and not writes and os.path.lexists(path):
                    say(f"{'open' if event == 'open' else 'list'} {path.removeprefix(root)}")

    sys.addaudithook(hook)
    sys.meta_path.insert(0, _Watch(say))


class _Watch(MetaPathFinder):
    """Let every function of the project say that it was called, and every parameter that it was read."""

    def __init__(self, say) -> None:
        self.say = say
        builtins._cmg_called = lambda name: None if _is_importing() else say(f"call {name}")

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ("pipeline", "serving"):
            return None
        if name == "pipeline.params":
            _watch_params(self.say)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.origin)
        return spec


def _is_importing() -> bool:
    """Return whether a function is called for what a module defines, of which perhaps nothing is used."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            return frame.f_globals["__name__"] != "__main__"
        frame = frame.f_back
    return False


class _Loader(SourceFileLoader):
    """Compile a module with a call at the head of each of its functions."""

    def get_code(self, name):
        tree = ast.parse(self.get_data(self.path))
        for top in tree.body:
            for node in ast.walk(top):
                if isinstance(node, ast.FunctionDef):
                    said = ast.parse(f"_cmg_called('{name}.{getattr(top, 'name', '')}')").body
                    at = 0 if ast.get_docstring(node) is None else 1
                    node.body[at:at] = said
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)


def _watch_params(say) -> None:
    import pydantic

    def keys_of(instance: object, names) -> None:
        known = PREFIXES.get(type(instance).__name__)
        caller = sys._getframe(2).f_code.co_filename
        if known is None or caller.endswith("pipeline/params.py") or "pydantic" in caller:
            return
        for name in names:
            if name in type(instance).model_fields and f"{known}{name}" not in SECTIONS:
                say(f"param {known}{name}")

    def get(self, name):
        if not name.startswith("_"):
            keys_of(self, [name])
        return object.__getattribute__(self, name)

    def dump(self, **options):
        keys_of(self, set(type(self).__pydantic_fields__) - set(options.get("exclude") or ()))
        return original(self, **options)

    original = pydantic.BaseModel.model_dump
    pydantic.BaseModel.__getattribute__ = get
    pydantic.BaseModel.model_dump = dump


_STAGE = "pipeline.stages."
if os.environ.get("CMG_AUDIT") and any(_STAGE in one for one in sys.orig_argv):
    _name = "_".join(one.removeprefix(_STAGE) for one in sys.orig_argv[2:] if not one.startswith("--"))
    _start(f"{os.environ['CMG_AUDIT']}/{_name}.txt")
