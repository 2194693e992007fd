"""The mutants of modules: each fault that mutmut would put into their functions, as an edit of the text.

Rules of residence: from source to edits, by mutmut's operators, in an environment that has mutmut. What makes code of
an edit is ``mutated``.

    python tests/support/mutants.py MODULE.py ... > mutants.json
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import libcst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutated import Block, whereabouts
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

NOTHING = IgnoredCode(set(), set(), set())


class Visitor(MutationVisitor):
    """Finds what mutmut would change, and what is in decorated functions, around which it can put no wrapper."""

    def _skip_node_and_children(self, node: libcst.CSTNode) -> bool:
        if isinstance(node, libcst.FunctionDef) and node.decorators:
            return False
        return super()._skip_node_and_children(node)


def edits(path: str) -> Iterator[dict[str, Any]]:
    """Yield edits: from which offset to which, and the text that stands there then."""
    text = Path(path).read_text()
    wrapper = MetadataWrapper(libcst.parse_module(text))
    visitor = Visitor(mutation_operators, NOTHING)
    module = wrapper.visit(visitor)
    places = wrapper.resolve(PositionProvider)
    begins = [0, *accumulate(map(len, text.splitlines(keepends=True)))]
    tree = ast.parse(text)
    for mutation in visitor.mutations:
        place = places[mutation.original_node]
        if is_done_at_import(tree, place.start.line):
            continue
        begin, end = (begins[at.line - 1] + at.column for at in (place.start, place.end))
        blanks = re.fullmatch(r"(\s*).*?(\s*)", text[begin:end], re.DOTALL)  # some places have them, and some texts
        mutated = module.code_for_node(mutation.mutated_node).strip().join(blanks.groups())
        yield {"path": path, "begin": begin, "end": end, "text": mutated}


def is_done_at_import(tree: ast.Module, line: int) -> bool:
    """Return whether a line belongs to the module itself, to a class, or to a function that makes parts of them."""
    blocks, *_ = whereabouts(tree, line)
    names = [block.name for block in blocks if not isinstance(block, ast.ClassDef)]
    return not names or (len(names) == 1 and names[0] in called_at_import(tree))


def called_at_import(tree: ast.Module) -> set[str]:
    """Return the names that the module's own statements call."""
    own = [statement for statement in tree.body if not isinstance(statement, Block)]
    calls = [node.func for statement in own for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return {function.id for function in calls if isinstance(function, ast.Name)}


if __name__ == "__main__":
    unique = {json.dumps(edit): None for path in sys.argv[1:] for edit in edits(path)}
    print(f"[{','.join(unique)}]")
