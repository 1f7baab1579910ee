"""Cases of `benchmarks.robustness` about how calls end and the review's server."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.robustness_tool import HELD, NOT_TRIED, PATIENCE, Case, Ended, Tool, at_import, at_name, waited

_STUBBORN = 20
_BROKEN = "verify of a bad run"
_SIDE_OF_MASK = 30_000


# Ends


def _pipe_without_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def nobody_reads(stream: str, verb: str, tool: Tool, at: Path) -> str:
    run = tool.finished(at)
    if verb == _BROKEN:
        (run / "notes.txt").touch()
    with os.fdopen(_pipe_without_reader()) as end:
        args = ["verify", run]
        if verb == "anonymize":
            args = ["anonymize", "dir", tool.source, at / "out", "--workers", "1", "--no-progress"]
        ended = tool(*args, **{stream: end})
    return ended.said()


def closed_stdout(tool: Tool, at: Path) -> str:
    run = tool.finished(at)
    return tool("verify", run, preexec_fn=lambda: os.close(1)).said()


def _object(ended: Ended) -> str:
    """Whether the whole of standard output is one object that tells the end."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        error = json.loads(ended.out)["error"]
        if error["code"] == ended.code and error["sentence"]:
            return "an object"
    return "no object" if not ended.out.strip() else "something else"


def _sentence(ended: Ended) -> str:
    said = ended.err.strip()
    return "nothing said" if not said else "a sentence" if "Traceback" not in said else "a traceback"


def told(ended: Ended) -> str:
    return f"{ended.said()}, {_sentence(ended)}, {_object(ended)}"


def signal_at_start(number: int, tool: Tool, at: Path) -> str:
    args = ("anonymize", "dir", tool.source, at / "run", "--workers", "1", "--json")
    return told(tool(*args, at=at_import("numpy", number)))


def signal_at_work(number: int, tool: Tool, at: Path) -> str:
    args = ("anonymize", "dir", tool.source, at / "run", "--workers", "1", "--json", "--no-progress")
    return told(tool(*args, at=at_name(at / "run/images", 1, number)))


def usage(tool: Tool, at: Path) -> str:
    calls = (("verify", at / "nowhere"), ("verify", "--nonsense"), ("anonymize", "dir", at / "nowhere", at / "out"))
    ends = [tool(*args, "--json") for args in calls]
    objects = sum(_object(ended) == "an object" for ended in ends)
    return f"{', '.join(sorted({ended.said() for ended in ends}))}, {objects} objects of {len(ends)}"


def full_disk(tool: Tool, at: Path) -> str:
    small = at / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(small)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        return f"{NOT_TRIED}{mounted.stderr.strip()}"
    try:
        return told(tool("anonymize", "dir", tool.source, small / "run", "--workers", "1", "--json", "--no-progress"))
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


# Review


@dataclass(frozen=True)
class _Page:
    """A review that is served, and its address."""

    process: subprocess.Popen[str]
    port: int
    prefix: str

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(link):
            link.request(method, self.prefix + path, body, {"Content-Type": "application/json"})
            answer = link.getresponse()
            return answer.status, answer.read()

    def raw(self, path: str, headers: str, body: bytes) -> socket.socket:
        link = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        head = f"POST {self.prefix}{path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        link.sendall(f"{head}Content-Type: application/json\r\n{headers}\r\n\r\n".encode() + body)
        return link

    def held(self) -> str:
        """Id of the picture that is held back."""
        items = json.loads(self.ask("GET", "api/items?view=open")[1])["items"]
        return str(next(item["id"] for item in items if item["source"] == HELD))


@contextlib.contextmanager
def served(tool: Tool, at: Path) -> Iterator[_Page]:
    process = tool.start("review", tool.finished(at), "--json", stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        parts = urlsplit(json.loads(process.stdout.readline())["address"])
        page = _Page(process, parts.port or 0, parts.path)

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return page.ask("GET", "api/run")[0] == 200
            return False

        if not waited(answers):
            raise RuntimeError("the page is not served")
        yield page
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def half_a_body(number: int, tool: Tool, at: Path) -> str:
    with served(tool, at) as page:
        with page.raw(f"api/items/{page.held()}/decision", "Content-Length: 100", b"{"):
            os.kill(page.process.pid, number)
            if not waited(lambda: page.process.poll() is not None, _STUBBORN):
                locked = tool("remove", at / "run", "a.jpg").code != 0
                return f"runs on after {_STUBBORN} s" + (", the run is locked" if locked else "")
        return f"ends, exit {page.process.returncode}"


def _large_mask() -> bytes:
    """A PNG of 30,000 x 30,000 pixels of 2 bits, all white: 230 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack = zlib.compressobj(9)
    row = b"\0" + b"\xff" * (_SIDE_OF_MASK // 4)
    data = b"".join(pack.compress(row) for _ in range(_SIDE_OF_MASK)) + pack.flush()
    head = struct.pack(">IIBBBBB", _SIDE_OF_MASK, _SIDE_OF_MASK, 2, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _most_memory(process: int) -> int:
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(line) // 1024


def large_mask(tool: Tool, at: Path) -> str:
    mask = base64.b64encode(_large_mask()).decode()
    with served(tool, at) as page:
        page.ask("GET", f"api/items/{page.held()}/photo")
        before = _most_memory(page.process.pid)
        wish = {"action": "mask", "version": 0, "mask": mask}
        status, _ = page.ask("POST", f"api/items/{page.held()}/decision", json.dumps(wish).encode())
        more = _most_memory(page.process.pid) - before
    return f"refused ({status}), " + (f"{more} MiB" if more >= 50 else "under 50 MiB")


def body_in_pieces(tool: Tool, at: Path) -> str:
    """A length that is small enough, and pieces that may come to any size."""
    with served(tool, at) as page:
        headers = "Content-Length: 2\r\nTransfer-Encoding: chunked"
        with page.raw("api/finish", headers, b"2\r\n{}\r\n0\r\n\r\n") as link:
            status = int(link.recv(100).split()[1])
    return "refused" if status in (400, 404) else f"taken ({status})"


def shapes(tool: Tool, at: Path) -> str:
    with served(tool, at) as page:
        item = f"api/items/{page.held()}"
        asked = [
            ("GET", "api/nothing", None),
            ("GET", "api/items/nobody", None),
            ("GET", "api/items?view=strange", None),
            ("GET", "api/items?offset=many", None),
            ("GET", f"{item}/strange", None),
            ("PUT", f"{item}/decision", b"{}"),
            ("POST", f"{item}/decision", b"{"),
            ("POST", f"{item}/decision", b"[]"),
            ("POST", f"{item}/decision", b"{}"),
            ("POST", f"{item}/decision", b'{"action": "mask", "version": 0, "mask": "no mask"}'),
            ("POST", f"{item}/decision", b'{"action": "no_face", "version": 7}'),
        ]
        found = set()
        for method, path, body in asked:
            status, answer = page.ask(method, path, body)
            assert status >= 400
            try:
                told = json.loads(answer)
                found.add(", ".join(f"{key}: {type(value).__name__}" for key, value in sorted(told.items())))
            except ValueError:
                found.add("no JSON")
    return f"{len(found)} of {len(asked)}" if len(found) > 1 else f"1 of {len(asked)} ({found.pop()})"


_ZERO, _FOUR = "exit 0", "exit 4"
_TOLD = "exit 130, a sentence, an object"
_TABLE: tuple[tuple[str, str, Callable[[Tool, Path], str], str], ...] = (
    ("ends", "`verify`, nobody reads stdout", functools.partial(nobody_reads, "stdout", "verify"), _ZERO),
    ("ends", "`verify` of a bad run, nobody reads stdout", functools.partial(nobody_reads, "stdout", _BROKEN), _FOUR),
    ("ends", "`anonymize`, nobody reads stderr", functools.partial(nobody_reads, "stderr", "anonymize"), "exit 3"),
    ("ends", "`verify`, stdout closed", closed_stdout, _ZERO),
    ("ends", "SIGHUP while it loads, `--json`", functools.partial(signal_at_start, signal.SIGHUP), _TOLD),
    ("ends", "SIGTERM while it loads, `--json`", functools.partial(signal_at_start, signal.SIGTERM), _TOLD),
    ("ends", "SIGINT while it loads, `--json`", functools.partial(signal_at_start, signal.SIGINT), _TOLD),
    ("ends", "SIGHUP at work, `--json`", functools.partial(signal_at_work, signal.SIGHUP), _TOLD),
    ("ends", "SIGTERM at work, `--json`", functools.partial(signal_at_work, signal.SIGTERM), _TOLD),
    ("ends", "SIGINT at work, `--json`", functools.partial(signal_at_work, signal.SIGINT), _TOLD),
    ("ends", "wrong usage, `--json`, three calls", usage, "exit 2, 3 objects of 3"),
    ("ends", "full disk, `--json`", full_disk, "exit 2, a sentence, an object"),
    ("review", "one byte of a body, then SIGTERM", functools.partial(half_a_body, signal.SIGTERM), "ends, exit 0"),
    ("review", "one byte of a body, then Ctrl-C", functools.partial(half_a_body, signal.SIGINT), "ends, exit 0"),
    ("review", "mask of 30,000 x 30,000 in 230 kB", large_mask, "refused (422), under 50 MiB"),
    ("review", "small Content-Length, body in pieces", body_in_pieces, "refused"),
    ("review", "shapes of errors", shapes, "1 of 11 (error: str)"),
)  # fmt: skip
CASES = tuple(Case(*row) for row in _TABLE)
