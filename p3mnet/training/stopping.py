"""Ending early without losing a step: SIGTERM and Ctrl-C ask, the loop answers."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from p3mdata.base.streams import STOP_SIGNALS
from p3mdata.base.system import signals_held
from p3mnet.loader import Batch, Loader

_SIGNALS = STOP_SIGNALS


class Stop:
    """Whether somebody asked the run to end."""

    asked = False


@contextmanager
def stopping() -> Iterator[Stop]:
    """SIGTERM, SIGHUP or Ctrl-C asks to stop, one more Ctrl-C ends at once.

    One more SIGTERM does not: whoever starts several processes often sends it to all and has it passed on as well.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.asked = True

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def shielded(loader: Loader) -> Iterator[Batch]:
    """A loader's batches; its workers are there and leave SIGTERM and Ctrl-C, which often go to all, to this process.

    Else they would die before the step is finished, and their death would be an error in the middle of it.
    """
    with signals_held(*_SIGNALS):
        batches = iter(loader)
        first = list(itertools.islice(batches, 1))
    return itertools.chain(first, batches)
