"""The results that stand in the repository; `python -m bench.results` draws them again without measuring.

Rules of residence: for each part a JSON file, which is what was measured, and what is made of it: a Markdown file and,
for the parts that have one, a picture of the same name; and what README and GUIDE show of it, between marks of
their names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.checks import OURS
from bench.plots import PICTURES, label
from bench.report import markdown, truth, where
from bench.report_stores import redis_brief, stores_brief
from bench.truth import OF_PEERS

FOLDER = Path(__file__).parent / "results"
TEXTS = [FOLDER.parents[1] / name for name in ("README.md", "GUIDE.md")]


def save(results: dict[str, Any], folder: Path = FOLDER) -> None:
    """Write every part of the results, and leave the parts alone that were not measured."""
    folder.mkdir(exist_ok=True)
    for key in results.keys() - {"environment"}:
        part = {"environment": results["environment"], key: results[key]}
        (folder / f"{key}.json").write_text(json.dumps(rounded(part), separators=(",", ":")) + "\n")
        draw(key, folder)


def draw(key: str, folder: Path) -> None:
    part = json.loads((folder / f"{key}.json").read_text())
    (folder / f"{key}.md").write_text(page(key, part))
    if key in PICTURES:
        PICTURES[key](part[key], folder)


def page(key: str, part: dict[str, Any]) -> str:
    """Return the Markdown file of a part: its picture, if it has one, and its tables."""
    picture = f"![What the tables below say]({key}.png)\n\n" if key in PICTURES else ""
    return picture + markdown(part)


def verdicts(part: dict[str, Any]) -> str:
    """Return the table of yes and no under short names, without what only one knows: users."""
    _, table, _ = truth(part["truth"], lambda key: f"**{key}**" if key == OURS else label(key), OF_PEERS)
    return table


PICTURE = "![Bars: requests a second in each store, by library, for four cases](bench/results/stores.png)"
MORE = """\
[All of it](bench/results/stores.md): other numbers at once, the processor's time, and the slowest requests. \
[Where that time goes](bench/results/profile-stores.md), function by function."""
MARKED: dict[str, Callable[[dict[str, Any]], str]] = {
    "inprocess": lambda part: where(part["environment"]),
    "redis": lambda part: redis_brief(part["redis"]),
    "stores": lambda part: f"{PICTURE}\n\n{stores_brief(part['stores'])}\n\n{MORE}",
    "truth": verdicts,
}


def filled(text: str, folder: Path = FOLDER) -> str:
    """Return a text with its tables made of the results, as far as there are any."""
    for key, write in MARKED.items():
        if not (folder / f"{key}.json").exists():
            continue
        part = json.loads((folder / f"{key}.json").read_text())
        block = f"<!-- {key} -->\n{write(part)}\n<!-- /{key} -->"
        text = re.sub(rf"<!-- {key} -->.*<!-- /{key} -->", lambda match, block=block: block, text, flags=re.DOTALL)
    return text


def fill() -> None:
    for path in TEXTS:
        path.write_text(filled(path.read_text()))


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
    fill()
