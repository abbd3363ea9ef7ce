"""The import rule: a module imports only from layers before its own, and light ones import nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import longvid

PACKAGE = Path(longvid.__file__).parent
HEAVY = {"torch", "numpy", "av", "einops", "safetensors", "diffusers", "transformers", "accelerate", "peft"}
HEAVY |= {"moviepy", "xformers", "ray", "scenedetect", "cv2", "matplotlib", "PIL", "huggingface_hub"}

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "exits"),
    ("timeline", "document", "times", "values"),
    ("backends", "memory", "plugins", "lora", "downloads", "digests"),
    ("methods", "walks"),
    (
        "plan",
        "units",
        "spans",
        "schedules",
        "settings",
        "measurements",
        "identities",
        "request",
        "files",
        "locks",
        "outputs",
        "starts",
        "datasets",
    ),
    ("noise", "processes", "guidance"),
    ("denoise", "sampling"),
    ("state", "exchange", "keeping", "training_events", "progress", "devices"),
    ("video", "backends.*"),
    ("editing",),
    ("joining", "takes", "cleaning", "verifying", "finishing", "clips", "extending", "reports", "rendering"),
    ("evaluation",),
    ("training",),
    ("benchmarks",),
    ("commands",),
    ("cli",),
    ("__main__", "__init__"),
)
LIGHT = {name for layer in LAYERS[:5] for name in layer} | {
    "cli",
    "commands",
    "__init__",
    "__main__",
    "progress",
    "training_events",
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Dotted name below the package, without a trailing `__init__`, and syntax tree of every module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        yield name, ast.parse(path.read_text("utf-8"))


MODULES = dict(modules())


def layer(name: str) -> int:
    """The module's place in LAYERS: by its name, then as what lies inside a backend, then by its folder."""
    inside_backend = name.startswith("backends.")
    for i, names in enumerate(LAYERS):
        if name in names or (inside_backend and "backends.*" in names):
            return i
        if not inside_backend and name.split(".")[0] in names:
            return i
    raise AssertionError(f"longvid.{name} has no layer: give it a place in DESIGN's import order and here")


def run_time_imports(tree: ast.Module, module_level: bool) -> Iterator[str]:
    """Names imported when the module runs; what stands under `if TYPE_CHECKING` is left out."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (module_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            pending.extend(ast.iter_child_nodes(node))


def ours(imported: str) -> str | None:
    """The module of this package that an import names, or None for others'."""
    if imported.split(".")[0] != "longvid":
        return None
    name = imported.removeprefix("longvid").lstrip(".")
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_comes_before(name: str) -> None:
    for imported in run_time_imports(MODULES[name], module_level=True):
        module = ours(imported)
        if module is None or imported == "longvid.__version__":
            continue
        assert layer(module) <= layer(name), f"longvid.{name} imports longvid.{module}, which comes after it"


@pytest.mark.parametrize("name", MODULES)
def test_light_modules_import_nothing_heavy(name: str) -> None:
    package = name == "backends" or (PACKAGE / name.replace(".", "/")).is_dir()
    light = name.split(".")[0] in LIGHT and (package or not name.startswith("backends."))
    if light:
        heavy = {
            imported.split(".")[0] for imported in run_time_imports(MODULES[name], module_level=True)
        } & HEAVY
        assert not heavy, f"longvid.{name} imports {', '.join(heavy)} when it is loaded"


def test_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, longvid.cli, longvid.backends.diorama; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not HEAVY & set(loaded)
