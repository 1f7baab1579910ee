"""moto's S3 server on this machine, and the variables with which the libraries find it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

BUCKET = "crashes"


def serve_store() -> subprocess.Popen[bytes]:
    """Start the server, with an empty bucket; whoever starts it ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    import boto3

    deadline = time.monotonic() + 60
    while True:
        try:
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            return server
        except Exception:
            if time.monotonic() > deadline:
                server.terminate()
                raise
            time.sleep(0.5)
