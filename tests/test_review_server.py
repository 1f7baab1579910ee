"""The review page's server: what it gives to its page, and to nobody else."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from p3mdata.base.files import write_atomic
from p3mdata.base.jsonl import dumps, read_rows, write_json, write_rows
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.imaging import encode_mask
from p3mdata.records import ImageResult, Sample
from p3mdata.review.session import SAMPLE, reviewing
from p3mdata.run.decisions import read_log
from p3mdata.run.inputs import inputs_digest
from p3mdata.run.job import verify_run
from p3mdata.run.layout import LEDGER, QUEUE
from tests.reviews import SIDE, HeldRun
from tests.runs import PATIENCE, p3mdata, wait_until

pytest.importorskip("fastapi")
from p3mdata.review.server import Server  # noqa: E402


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, kept_models: FaceFinder) -> HeldRun:
    return HeldRun.make(tmp_path_factory.mktemp("server") / "run")


@pytest.fixture
def run(finished: HeldRun, tmp_path: Path) -> HeldRun:
    return finished.copy(tmp_path / "copy")


class Client:
    """Requests as they are written, without what a browser would tidy up."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        assert parts.hostname == "127.0.0.1" and parts.port
        self.port, self.prefix = parts.port, parts.path

    def raw(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, content, response.headers

    def get(self, path: str) -> Any:
        status, content, _ = self.raw("GET", self.prefix + path)
        assert status == 200, content
        return json.loads(content)

    def picture(self, path: str) -> np.ndarray:
        status, content, headers = self.raw("GET", self.prefix + path)
        assert status == 200 and headers["Cache-Control"] == "no-store"
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)

    def post(self, path: str, wish: dict[str, Any]) -> tuple[int, Any]:
        body = json.dumps(wish).encode()
        status, content, _ = self.raw("POST", self.prefix + path, body, Content_Type="application/json")
        return status, json.loads(content)

    def decide(self, identity: str, action: str, version: int = 0, **more: Any) -> tuple[int, Any]:
        return self.post(f"api/items/{identity}/decision", {"action": action, "version": version, **more})


@pytest.fixture
def client(run: HeldRun) -> Iterator[Client]:
    with reviewing(run.out, "anna") as session, Server(session) as server:
        yield Client(server.address)


def test_the_queue_and_an_item(run: HeldRun, client: Client) -> None:
    about = client.get("api/run")
    assert (about["total"], about["open"], about["decided"], about["reviewer"]) == (4, 2, 0, "anna")
    listed = client.get("api/items")
    assert [(item["source"], item["reason"]) for item in listed["items"]] == [
        ("held.png", "matte_without_person"),
        ("none.png", "no_face_found"),
    ]
    held = client.get(f"api/items/{run.id('held.png')}")
    assert held["view"] == {"width": SIDE + 2, "height": SIDE + 2}
    assert held["faces"][0]["seen_by"] == ["centerface", "libfacedetection"] and held["transition"]
    assert (held["version"], held["decision"], held["released"]) == (0, None, False)
    assert held["next"] == held["previous"] == run.id("none.png")
    assert held["position"] == {"view": "open", "index": 0, "total": 2}


def test_the_pictures_of_an_item(run: HeldRun, client: Client) -> None:
    base = f"api/items/{run.id('held.png')}"
    photo, result = client.picture(f"{base}/photo"), client.picture(f"{base}/result")
    clear = cv2.imread(str(run.source / "held.png"))
    assert photo.shape == result.shape == clear.shape
    facemask = client.picture(f"{base}/facemask")
    assert set(np.unique(facemask)) == {0, 255}
    assert np.abs(photo.astype(int) - clear).mean() < 4
    assert np.abs(result.astype(int) - clear)[facemask > 0].mean() > 10
    assert client.picture(f"{base}/private")[facemask > 0].all()
    fine = f"api/items/{run.id('fine.png')}"
    alpha = cv2.imread(str(run.alphas / "fine.png"), cv2.IMREAD_UNCHANGED)
    assert client.picture(f"{fine}/transition")[(alpha > 0) & (alpha < 255)].all()


def test_decisions_over_http(run: HeldRun, client: Client) -> None:
    status, item = client.decide(run.id("none.png"), "no_face")
    assert (status, item["released"], item["version"], item["outcome"]) == (200, True, 1, "no_face_confirmed")
    assert item["next"] == run.id("held.png")
    mask = base64.b64encode(encode_mask(np.ones((SIDE + 2, SIDE + 2), bool))).decode()
    client.decide(run.id("held.png"), "mask", mask=mask)
    # It covers nearly everything, which wants a second word.
    status, item = client.decide(run.id("held.png"), "mask", mask=mask, confirmed=True, version=1)
    assert (status, item["released"], item["decision"]["reviewer"]) == (200, True, "anna")
    assert client.get("api/run")["open"] == 0
    status, item = client.decide(run.id("held.png"), "reopen", version=2)
    assert (status, item["open"], item["decision"]) == (200, True, None)
    assert client.post("api/finish", {}) == (200, {"released": 3, "open": 1})
    assert verify_run(run.out)[1] == []


def test_decisions_that_are_refused(run: HeldRun, client: Client) -> None:
    held = run.id("held.png")
    assert client.decide(run.id("none.png"), "accept")[0] == 422
    for wish in ({"action": "remove"}, {"action": "mask"}, {"action": "mask", "mask": "#"}, {"action": ["mask"]}):
        assert client.post(f"api/items/{held}/decision", {"version": 0, **wish})[0] == 422
    small = base64.b64encode(encode_mask(np.ones((9, 9), bool))).decode()
    assert client.decide(held, "mask", mask=small)[0] == 422
    assert client.decide(held, "exclude", version=7) == (
        409,
        {"error": "held.png: somebody decided about it meanwhile. Look at it again."},
    )
    assert client.decide("unknown", "exclude")[0] == 422
    (run.source / "held.png").unlink()
    status, answer = client.decide(held, "accept")
    assert status == 410 and answer["error"].startswith("held.png cannot be read")
    assert not read_log(run.out)
    assert run.released() == {"fine.png", "also.jpg"}


def test_nobody_without_the_token_gets_anything(run: HeldRun, client: Client) -> None:
    identity = run.id("held.png")
    token = client.prefix.strip("/")
    assert len(token) >= 32
    wrong = "A" * len(token)
    for path in ("/", "/api/run", f"/{wrong}/", f"/{wrong}/api/items/{identity}/photo", "//", f"/{token[:-1]}/api/run"):
        status, content, _ = client.raw("GET", path)
        assert status == 404 and b"held" not in content and token.encode() not in content


@pytest.mark.parametrize(
    "path",
    [
        "../private/ledger.jsonl",
        "..%2fprivate%2fledger.jsonl",
        "%2e%2e/plan.json",
        "review.js/../../plan.json",
        "/etc/passwd",
        "api/items/..%2f..%2fprivate%2fledger.jsonl/photo",
        "api/items/../../private/ledger.jsonl/photo",
        "api/items/ID/..%2f..%2f..%2fprivate",
        "api/items/ID/source",
        "__init__.py",
        "server.py",
    ],
)
def test_no_path_outside_can_be_asked_for(run: HeldRun, client: Client, path: str) -> None:
    status, content, _ = client.raw("GET", client.prefix + path.replace("ID", run.id("held.png")))
    assert status in (404, 422)
    assert b"landmarks" not in content and b"root:" not in content and b"import" not in content


def test_other_sites_and_other_host_names_are_refused(run: HeldRun, client: Client) -> None:
    run_info, decision = client.prefix + "api/run", f"{client.prefix}api/items/{run.id('none.png')}/decision"
    body = b'{"action":"exclude","version":0}'
    assert client.raw("GET", run_info, Host=f"attacker.example:{client.port}")[0] == 404
    assert client.raw("GET", run_info, Host="127.0.0.1:1")[0] == 404
    assert (
        client.raw("POST", decision, body, Origin="http://attacker.example", Content_Type="application/json")[0] == 404
    )
    assert client.raw("POST", decision, body, Content_Type="text/plain")[0] == 404
    huge = client.raw("POST", decision, body, Content_Type="application/json", Content_Length=str(10**12))
    assert huge[0] == 404
    assert not read_log(run.out)


def test_nothing_may_be_kept_or_framed_by_the_browser(run: HeldRun, client: Client) -> None:
    for path in ("", "api/run", f"api/items/{run.id('held.png')}/photo", "nothing"):
        headers = client.raw("GET", client.prefix + path)[2]
        assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_other_machines_cannot_connect(run: HeldRun, client: Client) -> None:
    # A server on all addresses would answer on every loopback address.
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", client.port), timeout=2):
        pass


def test_no_clear_picture_is_written(
    run: HeldRun, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Temporary files would be seen as well.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def files() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if path.is_file()}

    before = files()
    for picture in ("photo", "result", "private", "facemask", "transition"):
        client.picture(f"api/items/{run.id('held.png')}/{picture}")
    assert files() == before


def test_a_full_disk_is_told(run: HeldRun, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("p3mdata.run.shards.write_released_together", full)
        status, answer = client.decide(run.id("none.png"), "no_face")
    assert status == 507 and "No space left" in answer["error"]
    assert client.post("api/finish", {})[1] == {"released": 3, "open": 1}
    assert verify_run(run.out)[1] == []


def many(run: HeldRun, copies: int) -> None:
    """Make the queue of a run long: copies of the row of its picture without a face."""
    (row,) = (row for source, row in run.rows.items() if source == "none.png")
    sources = list(read_rows(run.out / "private/sources.jsonl"))
    entry = next(entry for entry in sources if entry["source"] == "none.png")
    size = 1000
    samples = [entry | {"index": i, "id": f"{i:020x}", "source": f"{i}.png"} for i in range(copies)]
    rows = [
        ImageResult.from_json(
            row | {"id": s["id"], "source": s["source"], "inputs": inputs_digest(Sample.from_json(s))}
        ).to_json()
        for s in samples
    ]
    plan = json.loads((run.out / "plan.json").read_text()) | {"samples": copies, "shard_size": size}
    write_json(run.out / "plan.json", plan)
    write_rows(run.out / "private/sources.jsonl", samples)
    write_rows(run.out / LEDGER, rows)
    write_rows(run.out / QUEUE, ({"id": r["id"], "source": r["source"], "reason": r["reason"]} for r in rows))
    for start in range(0, copies, size):
        folder = run.out / "shards" / f"{start // size:05d}"
        folder.mkdir(exist_ok=True)
        write_rows(folder / "results.jsonl", rows[start : start + size])
        write_atomic(folder / "DONE", b"")


def test_thousands_of_items_are_listed_in_pages(run: HeldRun) -> None:
    # Three shards.
    many(run, 2_100)
    with reviewing(run.out) as session, Server(session) as server:
        client = Client(server.address)
        assert client.get("api/run")["open"] == 2_100
        page = client.get("api/items?offset=2090&limit=200")
        assert page["total"] == 2_100
        assert [item["source"] for item in page["items"]] == sorted(f"{i}.png" for i in range(2_100))[2090:]
        for bad in ("limit=201", "limit=0", "offset=-1", "view=all&limit=10000", "view=secret", "limit=x"):
            assert client.raw("GET", f"{client.prefix}api/items?{bad}")[0] == 422


def test_items_of_a_random_sample_are_open_until_somebody_looked(run: HeldRun) -> None:
    write_rows(run.out / SAMPLE, [{"id": run.id("fine.png")}])
    with reviewing(run.out) as session, Server(session) as server:
        client = Client(server.address)
        assert [item["source"] for item in client.get("api/items?view=sample")["items"]] == ["fine.png"]
        assert client.get("api/run")["open"] == 3
        before = run.path("fine.png").read_bytes()
        status, item = client.decide(run.id("fine.png"), "accept")
        assert (status, item["open"], item["released"]) == (200, False, True)
        assert run.path("fine.png").read_bytes() == before
    assert verify_run(run.out)[1] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_and_closes_the_run(run: HeldRun, number: signal.Signals) -> None:
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "p3mdata", "review", str(run.out), "--reviewer", "anna"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env) as process:
        assert process.stdout is not None and process.stderr is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        client = Client(found[0])

        def answers() -> bool:
            with contextlib.suppress(ConnectionError):
                return bool(client.get("api/run"))
            return False

        wait_until(answers, process)
        assert client.get("api/run")["open"] == 2
        assert client.decide(run.id("none.png"), "no_face")[0] == 200
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3, errors
    assert "no_face_confirmed" in output and client.prefix not in errors
    assert [dumps(row["outcome"]) for row in read_rows(run.out / LEDGER)].count('"no_face_confirmed"') == 1
    assert verify_run(run.out)[1] == []


def test_a_file_name_that_is_no_text_and_one_that_is_html(run: HeldRun) -> None:
    odd = os.fsdecode(b"\xff<b>.png")
    os.rename(run.source / "none.png", run.source / odd)
    os.rename(run.alphas / "none.png", run.alphas / odd)
    again = HeldRun(run.folder)
    again.out = run.folder / "again"
    again.anonymize()
    with reviewing(again.out) as session, Server(session) as server:
        client = Client(server.address)
        (item,) = (item for item in client.get("api/items")["items"] if item["reason"] == "no_face_found")
        assert item["source"] == odd
        assert client.get(f"api/items/{item['id']}")["source"] == odd
        assert client.decide(item["id"], "no_face")[0] == 200


def test_a_port_that_is_taken_is_told(run: HeldRun) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = p3mdata("review", run.out, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2 and "--port" in done.stderr and "Traceback" not in done.stderr


def half_a_request(client: Client, path: str) -> socket.socket:
    """A request with the token whose body never comes."""
    link = socket.create_connection(("127.0.0.1", client.port), timeout=PATIENCE)
    head = f"POST {client.prefix}{path} HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
    link.sendall((head + "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{").encode())
    return link


def test_a_body_that_never_comes_does_not_keep_the_run(run: HeldRun) -> None:
    with reviewing(run.out) as session:
        server = Server(session)
        with server, half_a_request(Client(server.address), f"api/items/{run.id('none.png')}/decision"):
            server.stop()
            ended = server.wait(PATIENCE)
        assert ended


def test_a_body_in_pieces_is_refused(run: HeldRun, client: Client) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=PATIENCE) as link:
        head = f"POST {client.prefix}api/finish HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
        link.sendall(head.encode() + b"2\r\n{}\r\n0\r\n\r\n")
        answer = link.recv(100)
    assert answer.split()[1] in (b"400", b"404")
    assert client.get("api/run")["open"] == 2


def test_a_mask_of_another_size_is_not_decoded(run: HeldRun, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    large = base64.b64encode(encode_mask(np.ones((SIDE * 8, SIDE * 8), bool))).decode()
    with monkeypatch.context() as patched:
        patched.setattr("p3mdata.review.views.cv2.imdecode", lambda *args: pytest.fail("was decoded"))
        status, answer = client.decide(run.id("held.png"), "mask", mask=large)
    assert status == 422 and "no PNG of the size" in answer["error"]


def test_errors_have_one_shape(run: HeldRun, client: Client) -> None:
    wrong = [
        client.raw(
            "POST", f"{client.prefix}api/items/{run.id('none.png')}/decision", b"[1]", Content_Type="application/json"
        ),
        client.raw(
            "POST", f"{client.prefix}api/items/{run.id('none.png')}/decision", b"{", Content_Type="application/json"
        ),
        client.raw("GET", f"{client.prefix}api/items?limit=many"),
        client.raw("GET", f"{client.prefix}api/no/such/address/at/all"),
        client.raw("POST", f"{client.prefix}api/run", b"{}", Content_Type="application/json"),
        client.raw("GET", "/wrong/"),
    ]
    assert [status for status, *_ in wrong] == [422, 422, 422, 404, 405, 404]
    for _, content, _ in wrong:
        answer = json.loads(content)
        assert list(answer) == ["error"] and isinstance(answer["error"], str)
