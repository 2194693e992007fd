"""The demo against an inference server: a real one on a socket, that answers well, badly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from driver import Browser, in_loop
from hypothesis import given
from hypothesis import strategies as st
from serving import free_port, launch

from fastersession.demo.app import create_app
from fastersession.demo.completions import EventData, messages
from fastersession.demo.model import ModelError, Turn
from fastersession.demo.upstream import Endpoint, UpstreamModel

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
HANG = None


def sse(*pieces: str) -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    return b"".join(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in chunks)


def chunked(body: bytes, size: int = 1_000_000) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def asked(*questions: str) -> list[Turn]:
    return [{"question": question, "answer": "ok", "status": "done", "error": ""} for question in questions]


class Inference:
    """A server that reads one request per connection and plays its script; `HANG` waits for the client to leave."""

    def __init__(self, *script: bytes | None) -> None:
        self.script, self.url = script, ""
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.left = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *rows = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append((line, headers, json.loads(body)))
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            for step in self.script:
                if step is HANG:
                    await reader.read()
                else:
                    writer.write(step)
                    await writer.drain()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        self.left.set()


@contextlib.asynccontextmanager
async def inference(*script: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Inference]:
    fake = Inference(*script)
    server = await asyncio.start_server(fake.accept, "127.0.0.1", 0, ssl=tls)
    fake.url = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        server.close()
        if fake.tasks:
            await asyncio.wait(fake.tasks, timeout=10)


async def answer(url: str, timeout: float = 10, key: str | None = None) -> str:
    model = UpstreamModel(url, "tiny", api_key=key, timeout=timeout)
    return "".join([piece async for piece in model.answer(asked("go"))])


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h:8080", "/v1/chat/completions"),
        ("http://h:8080/", "/v1/chat/completions"),
        ("http://h:8080/v1", "/v1/chat/completions"),
        ("http://h:8080/v1/", "/v1/chat/completions"),
        ("http://h:8080/v1/chat/completions", "/v1/chat/completions"),
        ("http://h:8080/api/v3", "/api/v3/chat/completions"),
        ("http://h:8080/proxy", "/proxy/v1/chat/completions"),
        ("http://h:8080/d/chat/completions?api-version=7", "/d/chat/completions?api-version=7"),
    ],
)
def test_the_url_may_be_given_with_or_without_its_tail(url: str, target: str) -> None:
    """Every usual spelling of the server's address leads to its chat completions."""
    assert Endpoint.parse(url) == Endpoint("h", 8080, False, "h:8080", target)


def test_default_ports() -> None:
    """Without a port it is 80 or 443; brackets of IPv6 stay in the Host header only."""
    assert Endpoint.parse("https://h/v1").port == 443
    assert Endpoint.parse("http://[::1]/v1") == Endpoint("::1", 80, False, "[::1]", "/v1/chat/completions")


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://h", "http://", "http://u:p@h", "http://h:x", "http://h/é"]
)
def test_a_bad_url_is_a_value_error(url: str) -> None:
    """An address that cannot work is refused before anything starts."""
    with pytest.raises(ValueError):
        Endpoint.parse(url)


def test_the_history_alternates() -> None:
    """A turn without an answer leaves no two user messages in a row."""
    turns = asked("a", "b", "c")
    turns[0]["answer"] = ""
    history = messages(turns)
    assert [message["role"] for message in history] == ["user", "assistant", "user", "assistant", "user"]
    assert [message["content"] for message in history] == ["a", "(no answer)", "b", "ok", "c"]


@given(st.lists(st.text()), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_events_may_be_cut_anywhere(texts: list[str], newline: str, data: st.DataObject) -> None:
    """The same bytes give the same events, wherever they are split."""
    lines = [line for text in texts for line in (": comment", "data: " + json.dumps(text, ensure_ascii=False), "")]
    body = newline.join([*lines, ": end"]).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=20)))
    parser, found = EventData(), []
    for begin, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += list(parser.feed(body[begin:end]))
    assert [json.loads(event) for event in found] == texts


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (CHUNKED, chunked(sse("Hé", "llo 🙂") + DONE)),
        (CHUNKED, chunked(sse("Hé", "llo 🙂") + DONE, size=1)),
        (CHUNKED, chunked(b": hi\r\n\r\n" + sse("Hé", "llo 🙂").replace(b"\n", b"\r\n") + DONE, size=3)),
        (OK + b"\r\n", sse("Hé", "llo 🙂") + DONE),
        (OK + b"Content-Length: %d\r\n\r\n" % len(sse("Hé", "llo 🙂") + DONE), sse("Hé", "llo 🙂") + DONE),
        (CHUNKED, chunked(sse("Hé", "llo 🙂") + b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n')),
        (
            CHUNKED,
            chunked(b"\n\nrubbish\nevent: x\n\nid\n" + sse("Hé", "llo 🙂") + b'data: {"choices": []}\n\n' + DONE),
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED, chunked(sse("Hé", "llo 🙂") + DONE)),
        (OK + b"\r\n", sse("Hé", "llo 🙂") + b"data: [DONE]"),
        (CHUNKED, chunked(sse("Hé", "llo 🙂") + DONE + b"data: after the end\n\n")),
    ],
)
@in_loop
async def test_streams_of_every_cut_are_read(head: bytes, body: bytes) -> None:
    """Chunks, lengths, open ends, comments, foreign fields: the text arrives whole."""
    async with inference(head, body) as fake:
        assert await answer(fake.url) == "Héllo 🙂"


@in_loop
async def test_the_request_is_what_the_api_wants() -> None:
    """Path, model, stream and the whole history are sent; the key only if there is one."""
    async with inference(CHUNKED, chunked(DONE)) as fake:
        await answer(fake.url)
        await answer(fake.url, key="k-1")
    (line, plain, body), (_, keyed, _) = fake.requests
    assert line == "POST /v1/chat/completions HTTP/1.1"
    assert body == {"model": "tiny", "messages": [{"role": "user", "content": "go"}], "stream": True}
    assert "authorization" not in plain
    assert keyed["authorization"] == "Bearer k-1"


def failing(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ([failing("401 Unauthorized", '{"error": {"message": "Bad key k-1"}}')], "answered 401: Bad key …"),
        ([failing("404 Not Found", '{"detail": "no such model"}')], "answered 404: no such model"),
        ([failing("500 Internal Server Error", "out of memory")], "answered 500: out of memory"),
        ([failing("502 Bad Gateway", "<html><h1>Oops</h1>")], "answered 502: Bad Gateway"),
        ([b"HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\nhal"], "answered 500: hal"),
        ([CHUNKED, chunked(b'data: {"error": {"message": "overloaded"}}\n\n')], "gave up: overloaded"),
        ([CHUNKED, chunked(b"data: {nonsense\n\n")], "not JSON"),
        ([CHUNKED, chunked(b"data: [1]\n\n")], "not a completion"),
        ([CHUNKED, chunked(sse("half"))], "ended its answer early"),
        ([OK, b"\r\n", sse("half")], "ended its answer early"),
        ([CHUNKED, b"5\r\nda"], "broke off"),
        ([], "broke off"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "does not speak HTTP"),
        ([HANG], "silent for 0.2 seconds"),
        ([CHUNKED, chunked(sse("half"))[:-5], HANG], "silent for 0.2 seconds"),
        ([OK + b"\r\n", b"data: ", b"x" * 3_000_000], "line without end"),
    ],
)
@in_loop
async def test_every_fault_is_one_clear_sentence(script: list[bytes | None], said: str) -> None:
    """Refusals, silences, broken and odd streams become a ModelError that names the fault and never the key."""
    async with inference(*script) as fake:
        with pytest.raises(ModelError, match=said) as caught:
            await answer(fake.url, timeout=0.2 if HANG in script else 10, key="k-1")
    assert "k-1" not in str(caught.value)


@in_loop
async def test_nobody_there_is_a_clear_sentence() -> None:
    """A closed port, an unknown and an impossible host: the sentence names the address."""
    port = free_port()
    with pytest.raises(ModelError, match=f"Cannot reach the inference server at 127.0.0.1:{port}: "):
        await answer(f"http://127.0.0.1:{port}")
    with pytest.raises(ModelError, match=r"Cannot reach the inference server at nowhere\.invalid"):
        await answer("http://nowhere.invalid")
    with pytest.raises(ModelError, match=r"Cannot reach the inference server at a\.\.b"):
        await answer("http://a..b")


def certificate(folder: Path) -> Path:
    """Sign a certificate for 127.0.0.1 with its own key; both in one PEM file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    signed = builder.add_extension(x509.SubjectAlternativeName([address]), critical=True).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


def test_https_is_spoken_and_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trusted certificate is talked to, an unknown one is a clear sentence."""
    path = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)

    async def ask() -> str:
        async with inference(CHUNKED, chunked(sse("safe") + DONE), tls=context) as fake:
            return await answer(fake.url)

    with pytest.raises(ModelError, match="self-signed certificate"):
        asyncio.run(ask())
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    assert asyncio.run(ask()) == "safe"


@in_loop
async def test_leaving_hangs_up_on_the_inference_server() -> None:
    """When the client stops, the connection to the server closes at once and the partial answer is kept."""
    async with inference(CHUNKED, chunked(sse("one ", "two "))[:-5], HANG) as fake:
        browser = Browser(create_app(UpstreamModel(fake.url, "tiny")))
        body = json.dumps({"message": "go"}).encode()
        await browser.leave(
            "/chat", after=3, method="POST", body=body, headers=[(b"content-type", b"application/json")]
        )
        await asyncio.wait_for(fake.left.wait(), 10)
        (turn,) = (await browser.get("/history")).json()["turns"]
    assert (turn["answer"], turn["status"]) == ("one two ", "stopped")


@in_loop
async def test_the_command_sends_the_whole_history_and_keeps_failed_questions() -> None:
    """`demo --upstream` end to end: key from the environment, all turns as messages, an error in the chat."""
    port = free_port()
    async with inference(CHUNKED, chunked(sse("Hi ", "there") + DONE)) as fake:
        options = ["--port", str(port), "--upstream", fake.url, "--model", "tiny", "--api-key-env", "DEMO_KEY"]
        argv = [sys.executable, "-m", "fastersession", "demo", *options]
        with launch(argv, port, {"DEMO_KEY": "k-2"}, ready="/") as server:
            async with httpx.AsyncClient(base_url=server.url) as client:
                await client.post("/chat", json={"message": "one"})
                await client.post("/chat", json={"message": "two"})
                fake.script = (failing("503 Busy", "come back later"),)
                failed = await client.post("/chat", json={"message": "three"})
                history = (await client.get("/history")).json()
    assert "answered 503: come back later" in failed.text
    assert [turn["question"] for turn in history["turns"]] == ["one", "two", "three"]
    assert (history["model"], history["turns"][2]["status"]) == ("tiny", "error")
    _, headers, body = fake.requests[-1]
    assert headers["authorization"] == "Bearer k-2"
    assert [(m["role"], m["content"]) for m in body["messages"]] == [
        ("user", "one"),
        ("assistant", "Hi there"),
        ("user", "two"),
        ("assistant", "Hi there"),
        ("user", "three"),
    ]
