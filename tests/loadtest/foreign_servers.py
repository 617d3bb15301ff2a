"""A server that answers as others do: one path a style, each a way in which OpenAI-compatible servers differ.

Every answer has `max_tokens` tokens, "w0 ", "w1 " ..., unless its style says otherwise.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Iterator


def event(choice: dict | None, **more: object) -> str:
    return json.dumps({"id": "x", "object": "chunk", "choices": [choice] if choice else [], **more})


def texts(tokens: int, together: int = 1) -> Iterator[str]:
    for first in range(0, tokens, together):
        yield "".join(f"w{i} " for i in range(first, min(first + together, tokens)))


def usage(prompt: int, tokens: int) -> dict:
    return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}


def delta(text: str | None, finish: str | None = None) -> dict:
    return {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}


def vllm_chat(tokens: int) -> Iterator[str]:
    """The role first with an empty text, usage null until an event of its own, two tokens in an event."""
    yield event({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}, usage=None)
    for text in texts(tokens, together=2):
        yield event(delta(text), usage=None)
    yield event(delta("", "length") | {"stop_reason": None}, usage=None)
    yield event(None, usage=usage(7, tokens))
    yield "[DONE]"


def vllm_continuous(tokens: int) -> Iterator[str]:
    """stream_options.continuous_usage_stats: a running usage in every event; three tokens in an event."""
    done = 0
    for text in texts(tokens, together=3):
        done += text.count("w")
        yield event(delta(text), usage=usage(7, done))
    yield event(delta(None, "length"), usage=usage(7, done))
    yield "[DONE]"


def vllm_completions(tokens: int) -> Iterator[str]:
    for i, text in enumerate(texts(tokens)):
        finish = "length" if i + 1 == tokens else None
        yield event({"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": None})
    yield event(None, usage=usage(7, tokens))
    yield "[DONE]"


def llama_cpp(tokens: int) -> Iterator[str]:
    """A role with a null text, keys in alphabetical order, no usage but timings in the last event."""
    yield json.dumps({"choices": [{"delta": {"content": None, "role": "assistant"}, "finish_reason": None, "index": 0}]})
    for text in texts(tokens):
        yield json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": None, "index": 0}], "created": 1})
    timings = {"cache_n": 3, "predicted_ms": 1.5, "predicted_n": tokens, "prompt_ms": 0.5, "prompt_n": 4}
    yield json.dumps({"choices": [{"delta": {}, "finish_reason": "length", "index": 0}], "timings": timings})
    yield "[DONE]"


def without_usage(tokens: int) -> Iterator[str]:
    for text in texts(tokens, together=4):
        yield event(delta(text))
    yield event(delta(None, "length"))
    yield "[DONE]"


def stops_early(tokens: int) -> Iterator[str]:
    for text in texts(tokens - 2):
        yield event(delta(text))
    yield event(delta(None, "stop"))
    yield "[DONE]"


def without_done(tokens: int) -> Iterator[str]:
    yield from (data for data in vllm_chat(tokens) if data != "[DONE]")


def reasoning(tokens: int) -> Iterator[str]:
    for text in texts(tokens):
        yield event({"index": 0, "delta": {"reasoning": text, "content": None}, "finish_reason": None})
    yield event(delta(None, "length"))
    yield event(None, usage=usage(7, tokens))
    yield "[DONE]"


def fails_midway(tokens: int) -> Iterator[str]:
    yield event(delta("w0 "))
    yield json.dumps({"error": {"message": "out of memory", "type": "server_error", "code": 500}})
    yield "[DONE]"


def never_finishes(tokens: int) -> Iterator[str]:
    for text in texts(tokens):
        yield event(delta(text))


STYLES = {
    "vllm-chat": vllm_chat,
    "vllm-continuous": vllm_continuous,
    "vllm-completions": vllm_completions,
    "llama.cpp": llama_cpp,
    "without-usage": without_usage,
    "stops-early": stops_early,
    "without-done": without_done,
    "reasoning": reasoning,
    "fails-midway": fails_midway,
    "never-finishes": never_finishes,
}
# How the same events may lie on the wire.
FRAMINGS = ("plain", "crlf", "comments", "bytewise", "together", "until-close")


def frame(events: list[str], framing: str) -> list[bytes]:
    end = "\r\n" if framing == "crlf" else "\n"
    lines = [f"data: {data}{end}{end}" for data in events]
    if framing == "comments":
        lines = [f": keep-alive{end}{end}event: message{end}id: {i}{end}{line}" for i, line in enumerate(lines)]
    if framing == "bytewise":
        whole = "".join(lines).encode()
        return [whole[i : i + 7] for i in range(0, len(whole), 7)]
    if framing == "together":
        return ["".join(lines).encode()]
    return [line.encode() for line in lines]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _, style, framing, *_ = self.path.split("/")
        if style == "busy":
            return self.answer(429, b'{"error": {"message": "busy"}}')
        if style == "no-stream":
            return self.answer(200, json.dumps({"choices": [{"message": {"content": "w0"}}]}).encode())
        events = list(STYLES[style](body["max_tokens"])) if style != "error-line" else []
        pieces = frame(events, framing)
        if style == "error-line":  # llama.cpp before 2025
            pieces = [b'data: {"choices": [{"delta": {"content": "w0 "}, "finish_reason": "stop"}]}\n\n',
                      b'error: {"code": 500, "message": "slot unavailable", "type": "server_error"}\n\n']  # fmt: skip
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.close_connection = framing == "until-close"
        if self.close_connection:
            self.send_header("Connection", "close")
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece if self.close_connection else b"%X;x=y\r\n%s\r\n" % (len(piece), piece))
        if not self.close_connection:
            self.wfile.write(b"0\r\n\r\n")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(404, b"")

    def log_message(self, *_: object) -> None:
        pass


class ForeignServer:
    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def url(self, style: str, framing: str = "plain") -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{style}/{framing}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
