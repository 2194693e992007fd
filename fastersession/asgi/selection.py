"""Requests that an argument names: by their path, or by a header.

Rules of residence: a decision on the scope alone. What is named was checked at construction; what becomes of it is not
known here.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Selection(NamedTuple):
    """Paths, prefixes and headers."""

    paths: frozenset[str]
    prefixes: tuple[str, ...]
    headers: tuple[tuple[bytes, bytes | None], ...]  # name in lower case, and value; None stands for any

    def covers(self, scope: Any) -> bool:
        """Return whether a request is one of those."""
        if self.paths or self.prefixes:
            path = path_below(scope["path"], scope.get("root_path"))
            if path in self.paths or path.startswith(self.prefixes):
                return True
        if not self.headers:
            return False
        return any(
            header.lower() == name and (value is None or value == given)
            for header, given in scope["headers"]
            for name, value in self.headers
        )


def path_below(path: str, root_path: str | None) -> str:
    """Return the path as the application mounted at ``root_path`` knows it, as users write it.

    Servers and routers keep the mount in ``path`` (uvicorn's ``--root-path``, Starlette's ``Mount``), others take it
    off: a path that does not begin with it is taken as it is. ``/api`` is no beginning of ``/apiary``.
    """
    if not root_path or not path.startswith(root_path):
        return path
    below = path[len(root_path) :]
    if below.startswith("/"):
        return below
    return "/" + below if not below or root_path.endswith("/") else path
