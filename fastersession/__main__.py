"""The command line: ``python -m fastersession``, and the console script of the same name.

Rules of residence: arguments in, exit status out, sentences for people. What the demo does is in
``demo``, which is imported only when asked for; the library never imports this module.
"""

import argparse
import asyncio
import contextlib
import errno
import ipaddress
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from importlib import metadata
from types import FrameType
from typing import TYPE_CHECKING

from fastersession.administration import add_commands, add_conversations, run, run_conversations

if TYPE_CHECKING:
    from fastersession.demo.model import Model
    from fastersession.stores.base import Store

_TRY_SECONDS = 10.0  # a database in another country answers sooner


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; wrong arguments exit with 2 from here."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command == "keygen":
        return _keygen()
    if options.command == "sessions":
        return run(options)
    if options.command in ("conversations", "reseal"):
        return run_conversations(options)
    if (options.upstream is None) != (options.model is None):
        parser.error("--upstream URL and --model NAME go together")
    try:
        return _demo(parser, options)
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "h11"):
            raise
        return _fail(f'the demo needs {error.name}: pip install "fastersession[demo]"')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastersession", description="Server-side sessions for ASGI that keep what a streaming response writes."
    )
    parser.add_argument("--version", action="version", version=f"fastersession {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("keygen", help="print a new secret key", description="Print a new secret key, and only that.")
    add_commands(commands)
    add_conversations(commands)
    demo = commands.add_parser(
        "demo",
        help="run a streaming chat that remembers",
        description="Run a streaming chat on this machine. A built-in model answers, or an inference server of yours.",
    )
    demo.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    demo.add_argument("--port", type=_port, default=8000, help="0 takes a free one (default: %(default)s)")
    demo.add_argument(
        "--upstream", metavar="URL", help="an OpenAI-compatible server, with or without /v1/chat/completions"
    )
    demo.add_argument("--model", metavar="NAME", help="the model to ask for there")
    demo.add_argument(
        "--api-key-env",
        metavar="NAME",
        default="OPENAI_API_KEY",
        help="environment variable with the API key, sent only if set (default: %(default)s)",
    )
    demo.add_argument(
        "--timeout",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="longest silence of the upstream that is waited through (default: %(default)g)",
    )
    demo.add_argument(
        "--store",
        metavar="URL",
        default="memory://",
        help="where conversations live, such as sqlite:///chat.db or redis://localhost (default: %(default)s)",
    )
    demo.add_argument(
        "--secret-env",
        metavar="NAME",
        default="FASTERSESSION_SECRET",
        help="environment variable with the secret key; a random one if not set (default: %(default)s)",
    )
    return parser


def _version() -> str:
    try:
        return metadata.version("fastersession")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) < 86400:
            return seconds
    raise argparse.ArgumentTypeError(f"must be a number of seconds, above 0 and below a day, not {text!r}")


def _fail(message: str) -> int:
    print(f"fastersession: {message}", file=sys.stderr)
    return 1


def _keygen() -> int:
    print(secrets.token_urlsafe(32))  # 256 bits, as many as SHA-256 keeps of a key
    return 0


def _demo(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    import uvicorn

    from fastersession.demo.app import create_app

    class Server(uvicorn.Server):
        """Ends running answers first; uvicorn alone would wait for them, and cancel them with a traceback each."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            closing.set()
            await super().shutdown(sockets)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if not self.should_exit:  # a second Ctrl+C would cut off what ends within moments
                super().handle_exit(sig, frame)

    try:
        model = _model(options)
    except ValueError as error:
        parser.error(f"--upstream: {error}")
    try:
        store = _store(options.store)
    except ValueError as error:  # ConfigError, and what a driver says of a URL
        parser.error(f"--store: {str(error).removeprefix('url: ')}")
    try:
        asyncio.run(_try(options.store))
    except Exception as error:  # of any driver: whatever it is, the store cannot be used
        return _fail(f"the store cannot be used: {str(error) or type(error).__name__}")
    closing = asyncio.Event()
    app = create_app(model, store=store, secret_key=os.environ.get(options.secret_env), closing=closing)
    try:
        listener = _listen(options.host, options.port)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that is none, like "a..b"
        remedy = "; choose another with --port" if getattr(error, "errno", None) == errno.EADDRINUSE else ""
        reason = getattr(error, "strerror", None) or error
        return _fail(f"cannot listen on {options.host} port {options.port}: {reason}{remedy}")
    with listener:
        print(_greeting(listener, options), flush=True)
        config = uvicorn.Config(app, log_level="warning", ws="none", lifespan="on", timeout_graceful_shutdown=2)
        # uvicorn has stopped in order by then; it raises the signal again for whoever runs it.
        with contextlib.suppress(KeyboardInterrupt):
            Server(config).run(sockets=[listener])
    return 0


def _model(options: argparse.Namespace) -> "Model":
    if options.upstream is None:
        from fastersession.demo.model import BuiltinModel

        return BuiltinModel()
    from fastersession.demo.upstream import UpstreamModel

    key = os.environ.get(options.api_key_env, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError(f"the key in {options.api_key_env} has characters that no header may carry")
    return UpstreamModel(options.upstream, options.model, api_key=key or None, timeout=options.timeout)


def _store(url: str) -> "Store":
    from fastersession.stores import from_url

    return from_url(url)


async def _try(url: str) -> None:
    """Open the store once before the server does: what is wrong with it is one sentence then."""
    store = _store(url)
    try:
        async with asyncio.timeout(_TRY_SECONDS):
            await store.open()
    finally:
        await store.close()


def _listen(host: str, port: int) -> socket.socket:
    """Bind before uvicorn starts: a busy port is one sentence then, and port 0 has a number to print."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere this option would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _greeting(listener: socket.socket, options: argparse.Namespace) -> str:
    host = f"[{options.host}]" if ":" in options.host else options.host
    answers = f"from {options.model} at {options.upstream}" if options.upstream else "from the built-in model"
    lines = [
        f"fastersession demo: http://{host}:{listener.getsockname()[1]}",
        f"  Answers come {answers}.",
        "  Plain http on localhost, so the cookie is set with secure=False; behind https keep the default, True.",
        f"  {_about_store(options)}",
    ]
    if not ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback:
        lines.append("  Other machines can reach it, and what they send and read is not encrypted.")
    return "\n".join(lines)


def _about_store(options: argparse.Namespace) -> str:
    """Tell what a restart means. Of the URL only the scheme: the rest may have a password."""
    kind = options.store.partition(":")[0]
    if kind.lower() == "memory":
        return "Conversations live in this process's memory: they end with it (Ctrl+C)."
    if os.environ.get(options.secret_env):
        return f"Conversations live in the {kind} store: stop it (Ctrl+C), start it again, and go on."
    return (
        f"Conversations live in the {kind} store, but {options.secret_env} is not set: the secret is random, and a "
        "restart ends all sessions.\n  Remedy: export "
        f"{options.secret_env}=$(python -m fastersession keygen)"
    )


if __name__ == "__main__":
    sys.exit(main())
