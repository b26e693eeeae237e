"""A stand-in for a server: starts a process that ignores SIGTERM, then listens, dies or hangs.

usage: fake_server.py PORT healthy|dying|hanging FILE   (the started process's id is written to FILE)
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(b"ok")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("stream"):
            self._answer(b'data: {"n": 1}\n\ndata: {"n": 2}\n\ndata: [DONE]\n\n')
        else:
            self._answer(json.dumps({"path": self.path, "body": body}).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    port, behaviour, file = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    child = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    child.stdout.readline()  # it ignores SIGTERM from here on
    file.write_text(str(child.pid))
    print("weights loaded", flush=True)
    if behaviour == "dying":
        sys.exit("no such checkpoint")
    if behaviour == "hanging":
        time.sleep(600)
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
