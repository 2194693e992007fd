"""The python examples of README and GUIDE as files, for tests that run them and for type checkers.

Rules of residence: reads the two files; knows no framework. In GUIDE each example begins with the name of its file,
``# tabs.py``, under which one may import another.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from paths import ROOT

GUIDE = (ROOT / "GUIDE.md").read_text()


def blocks(text: str, language: str = "python") -> list[str]:
    """Return the code of a text, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def name_of(code: str) -> str | None:
    """Return the file name that an example begins with."""
    named = re.match(r"# (\w+\.py)\n", code)
    return named and named[1]


README = (ROOT / "README.md").read_text()
GUIDED = {name_of(code) or f"unnamed, {code[:60]!r}": code for code in blocks(GUIDE)}


def headed(text: str) -> Iterator[tuple[str, str]]:
    """Yield each example of a text with the last heading above it; a line of code that begins with # is none."""
    heading = ""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$|^#+ ([^\n]+)$", text, re.MULTILINE | re.DOTALL):
        if match[3]:
            heading = match[3].strip()
        elif match[1] == "python":
            yield heading, match[2]


def everything(folder: Path) -> list[Path]:
    """Write every example of both files into a folder, and return the files."""
    for heading, code in headed(README):
        (folder / f"readme_{heading.lower().replace(' ', '_')}.py").write_text(code)
    for name, code in GUIDED.items():
        (folder / name).write_text(code)
    return sorted(folder.iterdir())


def guided(name: str, folder: Path) -> ModuleType:
    """Import an example of GUIDE anew, from a folder of the test; it may import the others."""
    everything(folder)
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), folder / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    ours = {path.stem for path in folder.iterdir()}
    kept = {loaded: sys.modules.pop(loaded) for loaded in ours & sys.modules.keys()}
    sys.modules[spec.name] = module  # frameworks look annotations up there
    sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
        for loaded in ours & sys.modules.keys():
            del sys.modules[loaded]
        sys.modules.update(kept)
    return module
