"""A server on this machine that speaks the OpenAI protocol, well or badly, as its script says."""

import json
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = {"reason": "a red car without wheels", "positive": True, "negative": True, "quality": 0.75, "rest": True}


def answered(content=GOOD, **message):
    """A completed call that says `content`: an object, or any text."""
    text = content if isinstance(content, str) else json.dumps(content)
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def good():
    return 200, answered(), {}


def refuses():
    return 200, answered("", refusal="I would rather not."), {}


def malformed():
    return 200, answered('{"positive": "perhaps"'), {}


def no_json():
    return 200, b'{"id": "1", "choi', {}


def web_page():
    return 200, b"<html>hello</html>", {"content-type": "text/html"}


def mangled(**fields):
    """A completed call in which these fields are not what the protocol says."""
    return lambda: (200, {**answered(), **fields}, {})


def limited(seconds="0.01"):
    return lambda: (429, {"error": {"message": "too many requests"}}, {"retry-after": seconds})


def breaks():
    return 500, {"error": {"message": "inner trouble"}}, {}


def drops():
    return None


def sleeps(seconds):
    def respond():
        time.sleep(seconds)
        return good()

    return respond


def fails(status, message, code=None):
    return lambda: (status, {"error": {"message": message, "code": code}}, {})


class Endpoint:
    """`script` is used up call by call, then every answer is good; `calls` are the bodies that came."""

    def __init__(self, script=(), otherwise=good):
        self.script, self.otherwise = list(script), otherwise
        self.calls, self.headers, self.times = [], [], []
        self.busiest = self._busy = 0
        self._lock = threading.Lock()

    def next(self, body, headers):
        with self._lock:
            self.calls.append(json.loads(body))
            self.headers.append(dict(headers))
            self.times.append(time.monotonic())
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
            respond = self.script.pop(0) if self.script else self.otherwise
        try:
            return respond()
        finally:
            with self._lock:
                self._busy -= 1


@contextmanager
def serving(script=(), otherwise=good):
    """Yields an Endpoint with its `url`."""
    endpoint = Endpoint(script, otherwise)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            reply = endpoint.next(body, self.headers)
            if reply is None:
                self.close_connection = True
                self.connection.close()
                return
            status, document, headers = reply
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def handle(self):
            with suppress(OSError, ValueError):  # the client went away, or the connection was dropped on purpose
                super().handle()

        def finish(self):
            with suppress(OSError, ValueError):
                super().finish()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
