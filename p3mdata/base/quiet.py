"""Libraries that tell their makers that they are used, and what keeps them from it: nothing leaves this machine.

onnxruntime (1.32) sends events from its import on, and keeps them in the user's cache until they are sent; it reads a
variable once. MediaPipe (1.2) sends how often its tasks ran, from C code with a libcurl of its own, and has no switch.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

_EVENTS = "ORT_DISABLE_TELEMETRY"
# What libcurl asks first for the way to an https address. It knows no such way, so it opens no connection.
_WAY, _NOWHERE = "https_proxy", "nowhere://"
_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
_own = False


def _restore() -> None:
    # Of the process that started this one; libraries of Python are to find their own way again.
    if (value := os.environ.get(_WAY, "")).startswith(_NOWHERE):
        del os.environ[_WAY]
        if before := value.removeprefix(_NOWHERE):
            os.environ[_WAY] = before


_restore()


def own_process() -> None:
    """Say that this process is a command line of ours: no other code in it starts programs that need the network."""
    global _own
    _own = True
    # Else pydantic asks each installed package whether it is a plugin of its, which no model of ours uses.
    os.environ.setdefault(_PLUGINS, "__all__")


def load_onnxruntime() -> Any:
    """onnxruntime, which sends nothing."""
    os.environ.setdefault(_EVENTS, "1")
    late = "onnxruntime" in sys.modules
    library: Any = import_module("onnxruntime")
    if late:
        # Somebody else has imported it: what it sends from now on is all that can be stopped.
        library.disable_telemetry_events()
    return library


def close_way_out() -> None:
    """Let libraries in C find no way to https addresses, in command lines of ours and their workers.

    Python's own view of the variables stays as it is, so that stores are reached as before.
    """
    processes = sys.modules.get("multiprocessing")
    if _own or (processes is not None and processes.parent_process() is not None):
        os.putenv(_WAY, _NOWHERE + os.environ.get(_WAY, ""))
