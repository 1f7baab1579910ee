"""Re-identification: can software tell who is on the released images?

Needs the extra `audit` for the recogniser.
"""

from p3mdata.audit.reidentify import Audit, audit_run

__all__ = ["Audit", "audit_run"]
