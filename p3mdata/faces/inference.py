"""Networks in onnxruntime: one thread, and one arena of memory for all of a process."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from p3mdata.base.quiet import load_onnxruntime


@functools.cache
def _shared_arena() -> None:
    """One memory arena for all networks of a process, which grows by what is asked for.

    Without an arena every layer asks the system for fresh pages, which is a third of the time; with one of its own,
    grown in powers of two, each network keeps more than it needs.
    """
    onnxruntime = load_onnxruntime()
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_requested = onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(memory, as_requested)


def session(model: bytes, without: Sequence[str] = ()) -> Any:
    """An onnxruntime session of one thread, without some of its ways to rewrite a graph."""
    onnxruntime = load_onnxruntime()
    _shared_arena()
    options = onnxruntime.SessionOptions()
    # One thread per worker process: the pool supplies the parallelism, and sums keep their order.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Plans of memory by shape would pile up, since shapes differ from image to image.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.use_env_allocators", "1")
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without)
    )
