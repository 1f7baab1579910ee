"""The Python API: each verb of the command line as a function, in rooms like those of `cli`.

Heavy modules are imported when a verb is called.
"""

from p3mdata.api.datasets import build_split, check_dataset, export_release, release_record
from p3mdata.api.people import advise_run, apply_decisions, audit_attackers, audit_recall, audit_run, remove_images
from p3mdata.api.runs import (
    anonymize_dir,
    anonymize_image,
    explain_photo,
    fetch_run,
    merge_runs,
    run_status,
    verify_run,
)
from p3mdata.api.training import benchmark, train_check

__all__ = [
    "advise_run",
    "anonymize_dir",
    "anonymize_image",
    "apply_decisions",
    "audit_attackers",
    "audit_recall",
    "audit_run",
    "benchmark",
    "build_split",
    "check_dataset",
    "explain_photo",
    "export_release",
    "fetch_run",
    "merge_runs",
    "release_record",
    "remove_images",
    "run_status",
    "train_check",
    "verify_run",
]
