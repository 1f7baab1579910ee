"""Anonymize portraits for matting datasets: faces unrecognisable, everything else untouched, and proof of both.

The functions here are the verbs of the command line, with the same settings and the same results:

    import p3mdata
    summary = p3mdata.anonymize_dir("photos", "run", alphas="mattes", method="mosaic")
    print(summary.outcomes)
"""

from p3mdata.api import (
    advise_run,
    anonymize_dir,
    anonymize_image,
    apply_decisions,
    audit_attackers,
    audit_recall,
    audit_run,
    benchmark,
    build_split,
    check_dataset,
    explain_photo,
    export_release,
    fetch_run,
    merge_runs,
    release_record,
    remove_images,
    run_status,
    train_check,
    verify_run,
)
from p3mdata.version import __version__

__all__ = [
    "__version__",
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
