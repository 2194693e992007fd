"""One mutant: an edit of a module's text, as code that the functions of a running process can be given.

Rules of residence: text and code objects. Which edits there are stands in ``mutants``, what runs them in ``mutation``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from paths import ROOT

FUNCTION = 0x3  # CO_OPTIMIZED and CO_NEWLOCALS: the code of a function, not of a class or a module
SEEN = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_exceptiontable", "co_flags")

Place = tuple[str, str, int]  # file, qualified name, line
Functions = dict[Place, list[FunctionType]]
Block = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def place_of(code: CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


@lru_cache
def module(path: str) -> tuple[str, str, ast.Module]:
    """Return where a module lies, its text, and its tree."""
    file = ROOT / path
    return str(file), (text := file.read_text()), ast.parse(text)


class Mutant:
    """An edit of a module. It is one only if some function does something else, or has another default."""

    def __init__(self, path: str, begin: int, end: int, text: str) -> None:
        self.path = path
        self.file, original, tree = module(path)
        mutated = original[:begin] + text + original[end:]
        self._code = compile(mutated, self.file, "exec", dont_inherit=True)
        pairs = zip(
            functions(compile(original, self.file, "exec", dont_inherit=True)), functions(self._code), strict=True
        )
        self._codes = [both for pair in pairs for both in nested(*pair) if not alike(*both)]
        self.line = original.count("\n", 0, begin) + 1
        blocks, first, last = whereabouts(tree, self.line)
        self.reached_by = range(first, last + 1)  # lines: tests that run none of them cannot tell
        self.function = ".".join(block.name for block in blocks)
        self._is_default = bool(blocks) and not isinstance(blocks[-1], ast.ClassDef) and first == first_line(blocks[-1])
        start, rest = original.rfind("\n", 0, begin) + 1, len(original) - original.find("\n", end)
        self.before, self.after = differing(*(each[start : len(each) - rest] for each in (original, mutated)))

    def __bool__(self) -> bool:
        return bool(self._codes) or self._is_default

    def install(self, known: Functions) -> None:
        """Let the functions of this process be the mutant's."""
        for old, new in self._codes:
            for function in known.get(place_of(old), ()):  # of a nested one, those that were made at the import
                function.__code__ = new
        if self._is_default:
            made = self._made()
            for function in [
                each for place, them in known.items() if place[:2] == (self.file, self.function) for each in them
            ]:
                function.__defaults__, function.__kwdefaults__ = made.__defaults__, made.__kwdefaults__

    def _made(self) -> Any:
        """Return the function as the mutated module makes it."""
        name = self.path.removesuffix(".py").replace("/", ".")
        names: Any = {"__name__": name, "__package__": sys.modules[name].__package__, "__file__": self.file}
        exec(self._code, names)
        first, *others = self.function.split(".")
        thing = names[first]
        for part in others:
            thing = vars(thing)[part]
        return getattr(thing, "__func__", thing)


def differing(one: str, other: str) -> tuple[str, str]:
    """Return the lines in which two pieces of source differ, each as one line without comments."""
    before, after = ([line.strip() for line in text.splitlines()] for text in (one, other))
    for at in (0, -1):
        while before and after and before[at] == after[at]:
            del before[at], after[at]
    return flat(before), flat(after)


def flat(lines: list[str]) -> str:
    return " ".join(line.partition("  #")[0].strip() for line in lines)


def functions(code: CodeType) -> Iterator[CodeType]:
    """Yield the outermost functions of a module or a class."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_flags & FUNCTION == FUNCTION:
                yield constant
            else:
                yield from functions(constant)


def nested(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Yield the code of a function before and after an edit, and so of the functions in it that are still the same."""
    yield old, new
    inner = {each.co_qualname: each for each in new.co_consts if isinstance(each, CodeType)}
    for each in old.co_consts:
        other = inner.get(each.co_qualname) if isinstance(each, CodeType) else None
        if other is not None and each.co_freevars == other.co_freevars:
            yield from nested(each, other)


def alike(one: object, other: object) -> bool:
    """Return whether two functions, or constants of them, do the same, wherever their lines stand."""
    if not isinstance(one, CodeType) or not isinstance(other, CodeType):
        return (type(one), repr(one)) == (type(other), repr(other))  # True is not 1
    same = all(getattr(one, name) == getattr(other, name) for name in SEEN) and len(one.co_consts) == len(
        other.co_consts
    )
    return same and all(map(alike, one.co_consts, other.co_consts))


def whereabouts(tree: ast.Module, line: int) -> tuple[Sequence[Block], int, int]:
    """Return the classes and functions around a line, and the first and last line of its statement.

    Of a statement with a body, a loop say, these are its header's.
    """
    statement: Any = tree
    blocks: list[Block] = []
    while (inner := next(statements(statement, line), None)) is not None:
        statement = inner
        if isinstance(statement, Block):
            blocks.append(statement)
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno
    return blocks, first_line(statement), max(first_line(statement), last)


def statements(around: ast.AST, line: int) -> Iterator[Any]:
    """Yield the statement directly inside another one that has this line."""
    for node in ast.iter_child_nodes(around):
        if isinstance(node, ast.stmt):
            if first_line(node) <= line <= (node.end_lineno or 0):
                yield node
        elif not isinstance(node, ast.expr):
            yield from statements(node, line)  # an except clause, or a case


def first_line(node: Any) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
