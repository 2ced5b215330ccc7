"""A proxy before an object store that answers some requests as a store in trouble does."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

PASSED_ON = {"content-length", "connection", "transfer-encoding", "date", "server"}


class Proxy(ThreadingHTTPServer):
    """It asks `trouble(method, path)` of each request.

    None passes it on; a number is the status of an answer that the store never saw; `lost` passes it on and loses the
    answer; `hangs` answers nothing until the proxy is closed; bytes are the body of an answer.

    Attributes:
        asked: (method, path) of all requests.
    """

    daemon_threads = True

    def __init__(self, target):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.trouble = lambda *_: None
        self.asked = []
        self.closed = threading.Event()
        self.client = httpx.Client(trust_env=False, timeout=30)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path))
        trouble = self.server.trouble(self.command, self.path)
        if trouble == "hangs":
            self.server.closed.wait()
        if isinstance(trouble, int):
            code = {403: "AccessDenied", 429: "TooManyRequests", 503: "SlowDown"}.get(trouble, "InternalError")
            self._answer(trouble, {}, f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode())
        elif isinstance(trouble, bytes):
            self._answer(200, {"Content-Type": "application/xml"}, trouble)
        elif trouble != "hangs":
            answer = self.server.client.request(
                self.command, self.server.target + self.path, content=body, headers=dict(self.headers)
            )
            if trouble == "lost":
                self.close_connection = True
            else:
                headers = {name: value for name, value in answer.headers.items() if name.lower() not in PASSED_ON}
                length = answer.headers.get("content-length") if self.command == "HEAD" else None
                self._answer(answer.status_code, headers, answer.content, length=length)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815 - names that http.server calls

    def _answer(self, status, headers, body, *, length=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def proxy_before(target):
    """A running proxy."""
    proxy = Proxy(target)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closed.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()
