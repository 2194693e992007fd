"""Where sessions are kept: one module per store, and ``from_url``, which finds the right one.

Rules of residence: from a URL to a class and its arguments. No store is imported before its URL asks for it; what a
URL means beyond its scheme is the store's own affair.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import unquote

from ..errors import ConfigError
from .base import Store

__all__ = ["from_url"]


class _Kind(NamedTuple):
    """How a URL of one scheme looks, and the store that takes it."""

    form: str
    module: str
    name: str
    arguments: Callable[[str], tuple[str, ...]]  # from the URL to the store's positional arguments
    extra: str = ""


def from_url(url: str, **options: Any) -> Store:
    """Return a store for a URL, such as one from an environment variable. It is not opened yet.

    ``memory://`` keeps sessions in this process. ``sqlite:///sessions.db`` is a path relative to the working
    directory, ``sqlite:////var/lib/app/sessions.db`` an absolute one; as in any URL, ``%3F`` stands for ``?``.
    ``redis://``, ``rediss://`` (TLS), ``redis+cluster://``, ``rediss+cluster://`` and ``unix://`` (a socket) need the
    extra ``redis``. ``postgresql://``, ``mysql://`` and ``mariadb://`` need the extra ``sql`` and a driver, which may
    be named as SQLAlchemy does: ``postgresql+psycopg://``.

    :param options: the store's own arguments, such as ``clock``.
    :raises ConfigError: the scheme is not known, the URL cannot work, or a package is missing.
    """
    if not isinstance(url, str):
        raise ConfigError(f"url: must be a str like {_known()}")
    scheme = url.partition(":")[0].lower()
    dialect, _, driver = scheme.partition("+")
    kind = _KINDS.get(scheme) or (_KINDS.get(dialect) if dialect in _SQL and driver else None)
    if kind is None:  # named only where it is one: what stands there could be a password
        named = f" {scheme!r}" if "://" in url else ""
        raise ConfigError(f"url: unknown scheme{named}; known are {_known()}")
    arguments = kind.arguments(url)
    try:
        store: Store = getattr(import_module(f".{kind.module}", __name__), kind.name)(*arguments, **options)
    except ConfigError as error:  # the URL has another name there
        raise ConfigError(_OWN_NAME.sub("url: ", str(error))) from None
    except ImportError as error:
        missing: BaseException | None = error
        while missing and not isinstance(missing, ModuleNotFoundError):
            missing = missing.__cause__
        package = (getattr(missing, "name", None) or "").partition(".")[0]
        if package in ("", __name__.partition(".")[0]):
            raise
        remedy = f"fastersession[{kind.extra}]" if package in _OF_EXTRAS else package
        raise ConfigError(f'url: {kind.form} needs the package {package}: pip install "{remedy}"') from error
    return store


def _known() -> str:
    return ", ".join(dict.fromkeys(kind.form for kind in _KINDS.values()))


def _nothing(url: str) -> tuple[str, ...]:
    if url.partition(":")[2] not in ("", "//"):
        raise ConfigError("url: memory:// takes nothing after it; give max_sessions as an argument")
    return ()


def _path(url: str) -> tuple[str, ...]:
    start, path = url[: len("sqlite:///")], url[len("sqlite:///") :]
    if start.lower() != "sqlite:///" or not path:
        raise ConfigError("url: sqlite needs a path after three slashes: sqlite:///sessions.db, or four if absolute")
    if "?" in path or "#" in path:
        raise ConfigError("url: sqlite takes no ? or #; write %3F or %23 if the path has one")
    return (unquote(path),)


def _whole(url: str) -> tuple[str, ...]:
    return (url,)


def _redis(form: str) -> _Kind:
    return _Kind(form, "redis", "RedisStore", _whole, "redis")


def _sql(form: str) -> _Kind:
    return _Kind(form, "sql", "SQLStore", _whole, "sql")


_KINDS = {
    "memory": _Kind("memory://", "memory", "MemoryStore", _nothing),
    "sqlite": _Kind("sqlite:///path", "sqlite", "SQLiteStore", _path),
    **{name: _redis(f"{name}://") for name in ("redis", "rediss", "redis+cluster", "rediss+cluster", "unix")},
    **{name: _sql(f"{name}://") for name in ("postgresql", "mysql", "mariadb")},
}
_SQL = ("postgresql", "mysql", "mariadb")
_OWN_NAME = re.compile("^(store|engine_or_url): ")
_OF_EXTRAS = ("redis", "hiredis", "sqlalchemy", "greenlet")
