"""Re-identification: can software tell who is on the released images, and how many faces may have been missed?

Needs the extra `audit` for the recogniser; drawing a sample and the bound on misses need nothing.
"""

from p3mdata.audit.measures import miss_bound
from p3mdata.audit.reidentify import Audit, audit_run, read_audit
from p3mdata.audit.sampling import draw_sample, looked_at, sample_run
from p3mdata.audit.section import audit_section

__all__ = ["Audit", "audit_run", "audit_section", "draw_sample", "looked_at", "miss_bound", "read_audit", "sample_run"]
