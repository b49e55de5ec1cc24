"""How long a command keeps its caller waiting: best of five, on this machine, against the limits.

Run it where nothing else runs: ``.venv/bin/python tests/startup.py``.  The suite asserts what makes it true
on every machine: that these commands load neither the web server nor the log (tests/unit/cli/test_main.py).
"""

import os
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

TRIES = 5
PROGRAM = str(Path(sys.executable).with_name("gpushare"))
DOCUMENT = b"""{"schema":"gpushare.status/1","now":"2026-11-20T14:03:12Z","host":"atlas","version":"0.1.0",
"state":"free","notices":[],"new_request_starts_in_s":0,"ollama":{"up":true,"version":null,"since":null},
"running":[],"waiting":[],"models":[]}"""
COMPLETION = {"_GPUSHARE_COMPLETE": "bash_complete", "COMP_WORDS": "gpushare key ro", "COMP_CWORD": "2"}
LIMITS_S: dict[str, tuple[list[str], dict[str, str], float]] = {
    "gpushare status": (["status"], {}, 0.300),
    "completion of a word": ([], COMPLETION, 0.250),
}


class _Gateway(BaseHTTPRequestHandler):
    """Answers everything with an empty queue."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(DOCUMENT)

    def log_message(self, *args: object) -> None:
        pass


def main() -> int:
    """Prints a line for each command, and fails if one is over its limit."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Gateway) as server, tempfile.TemporaryDirectory() as home:
        Thread(target=server.serve_forever, daemon=True).start()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "GPUSHARE_URL": f"http://127.0.0.1:{server.server_port}",
        }
        late = False
        for name, (args, more, limit_s) in LIMITS_S.items():
            took_s = min(once(args, {**env, **more}) for _ in range(TRIES))
            late |= took_s > limit_s
            print(f"{name}: {1000 * took_s:.0f} ms, at most {1000 * limit_s:.0f} ms")  # noqa: T201 - a report
        server.shutdown()
    return int(late)


def once(args: list[str], env: dict[str, str]) -> float:
    """Returns how long one run took, in seconds."""
    begun = time.perf_counter()
    subprocess.run([PROGRAM, *args], env=env, capture_output=True, check=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
