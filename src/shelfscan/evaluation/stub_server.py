"""A stand-in behind a socket of this computer, and the command that serves a store's stock with one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from shelfscan.model.bundle import Bundle

JSON = {"content-type": "application/json"}
#: Status, head and text.
Answer = tuple[int, Mapping[str, str], str]
#: What a stand-in answers to a method, an address, a head (names in it are small) and a body.
Answers = Callable[[str, str, Mapping[str, str], bytes], Answer]


def server(answers: Answers, port: int = 0) -> HTTPServer:
    """One request at a time, over loopback; ``serve_forever`` runs it."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            names = {k.lower(): v for k, v in self.headers.items()}
            status, headers, text = answers(self.command, self.path, names, content)
            body = text.encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    return HTTPServer(("127.0.0.1", port), Handler)


def main(make: Callable[[Bundle], Answers], port: int, told: str) -> None:
    """Serve the stock of the store that the command names until stopped. ``told``: what a client has to know."""
    from shelfscan.bundle import load_bundle

    serve(make(load_bundle(Path(sys.argv[1]))), port, told)


def serve(answers: Answers, port: int, told: str) -> None:
    """Answer until stopped."""
    running = server(answers, port)
    print(f"url: http://127.0.0.1:{port}  {told}", flush=True)
    running.serve_forever()
