"""The results that stand in the repository; `python -m bench.results` draws them again without measuring.

Rules of residence: for each part a JSON file, which is what was measured, and what is made of it: a Markdown file and,
for the parts that have one, a picture of the same name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.plots import PICTURES
from bench.report import markdown

FOLDER = Path(__file__).parent / "results"


def save(results: dict[str, Any], folder: Path = FOLDER) -> None:
    """Write every part of the results, and leave the parts alone that were not measured."""
    folder.mkdir(exist_ok=True)
    for key in results.keys() - {"environment"}:
        part = {"environment": results["environment"], key: results[key]}
        (folder / f"{key}.json").write_text(json.dumps(rounded(part), separators=(",", ":")) + "\n")
        draw(key, folder)


def draw(key: str, folder: Path) -> None:
    part = json.loads((folder / f"{key}.json").read_text())
    (folder / f"{key}.md").write_text(markdown(part))
    if key in PICTURES:
        PICTURES[key](part[key], folder)


def rounded(value: Any) -> Any:
    """Keep four digits of every figure: more are noise, and make the files grow."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return value


if __name__ == "__main__":
    for file in sorted(FOLDER.glob("*.json")):
        draw(file.stem, FOLDER)
