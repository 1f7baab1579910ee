"""The review page's server: this machine only, behind a random token."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from p3mdata.base.streams import STOP_SIGNALS
from p3mdata.errors import SettingsError
from p3mdata.review.app import HOST, create_app
from p3mdata.review.session import Session, reviewing
from p3mdata.run.close import RunSummary

_PATIENCE_SECONDS = 3


class Server:
    """The page served from a thread of its own, until `stop`."""

    def __init__(self, session: Session, port: int = 0) -> None:
        self._token = secrets.token_urlsafe(24)
        try:
            self._socket = socket.create_server((HOST, port))
        except OSError as exc:
            raise SettingsError(
                f"--port {port}: cannot be used ({os.strerror(exc.errno or 0)}). Give another one."
            ) from exc
        config = uvicorn.Config(
            create_app(session, self._token, self.stop),
            log_level="critical",
            access_log=False,
            lifespan="off",
            # A request whose body never comes does not keep the run; decisions under way are waited for.
            timeout_graceful_shutdown=_PATIENCE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    @property
    def address(self) -> str:
        """Where the page is; whoever knows it can see the photographs from this machine."""
        return f"http://{HOST}:{self._socket.getsockname()[1]}/{self._token}/"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._thread.join()
        self._socket.close()

    def stop(self) -> None:
        """Ask the server to end after the requests it has."""
        self._server.should_exit = True

    def wait(self, seconds: float) -> bool:
        """Wait for the end, at most so long; whether it has come."""
        self._thread.join(seconds)
        return not self._thread.is_alive()


def serve(out: Path, reviewer: str | None, port: int, ready: Callable[[str], None]) -> RunSummary | None:
    """Serve the review page of a run until it is finished there, or until Ctrl-C or SIGTERM.

    Args:
        out: The run folder.
        reviewer: Recorded with every decision.
        port: 0 takes a free one.
        ready: Told the address.

    Returns:
        What the run comes to now, or None when nothing was decided.
    """
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        with reviewing(out, reviewer) as session:
            with Server(session, port) as server:
                ready(server.address)
                while not stopped.is_set() and not server.wait(0.2):
                    pass
            return session.close()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
