"""Re-identification: can software tell who is on the released images?

Needs the extra `audit` for the recogniser.
"""

from p3mdata.audit.reidentify import audit_run
from p3mdata.run.audit import Audit

__all__ = ["Audit", "audit_run"]
