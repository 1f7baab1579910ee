"""What an import costs: no torch to anonymize or to evaluate, no OpenCV to ask for the version."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_packages_import_without_what_they_do_not_need() -> None:
    code = "\n".join(
        [
            "import sys",
            "sys.modules['torch'] = None  # an import of it fails",
            "import p3mdata, p3mnet",
            "assert 'cv2' not in sys.modules, 'importing p3mdata brings OpenCV'",
            "import p3mdata.api, p3mdata.cli, p3mdata.run.job, p3mdata.faces.ensemble",
            "import p3mnet.cli, p3mnet.evaluate, p3mnet.metrics",
            "assert sys.modules['torch'] is None",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
