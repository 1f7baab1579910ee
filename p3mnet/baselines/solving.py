"""Linear systems of classic matting: a Laplacian, what is known, and what an estimate says, solved for alpha.

    (L + diag(trust)) alpha = trust * estimate,    trust = KNOWN where the trimap knows

L is the closed-form Laplacian of pymatting (3x3 windows, Levin et al. 2008) or that of a method's own.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p3mdata.dataset.foregrounds import load_pymatting
from p3mdata.errors import BrokenInput
from p3mdata.imaging.trimap import FOREGROUND, UNKNOWN

Floats = NDArray[np.float64]
# How much the trimap counts against the Laplacian (Levin et al. 2008).
KNOWN = 100.0
_NOT_SOLVED = "did not converge"


@contextlib.contextmanager
def solver_limits() -> Any:
    """Turns a solver that gives up into this picture's fault.

    Raises:
        BrokenInput: The equations were not solved within their limit.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ValueError as exc:
        if _NOT_SOLVED in str(exc):
            raise BrokenInput("not_solved", "leads to equations that were not solved within their limit.") from exc
        raise


def laplacian(image: NDArray[np.uint8], trimap: NDArray[np.uint8]) -> Any:
    """Closed-form matting Laplacian.

    Args:
        image: RGB, HxWx3.
        trimap: HxW of 0, 128, 255; windows that are known as a whole are left out.

    Returns:
        Sparse (H * W) x (H * W).
    """
    return load_pymatting().cf_laplacian(image / 255, is_known=(trimap != UNKNOWN).ravel())


def solve_alpha(system: Any, trimap: NDArray[np.uint8], estimate: NDArray[Any], trust: NDArray[Any]) -> Floats:
    """Alpha that obeys the trimap, and the estimate as far as it is trusted.

    Args:
        system: Laplacian, sparse (H * W) x (H * W).
        trimap: HxW of 0, 128, 255.
        estimate: HxW in 0..1; read where the trimap is unknown.
        trust: HxW, not negative: weight of the estimate; read where the trimap is unknown.

    Returns:
        HxW in 0..1.

    Raises:
        BrokenInput: The equations were not solved within their limit.
    """
    import scipy.sparse

    library = load_pymatting()
    unknown = trimap == UNKNOWN
    weight = np.where(unknown, trust, KNOWN).ravel().astype(np.float64)
    target = np.where(unknown, estimate, trimap == FOREGROUND).ravel().astype(np.float64)
    matrix = (system + scipy.sparse.diags(weight)).tocsc()
    with solver_limits():
        alpha = library.cg(matrix, weight * target, M=library.ichol(matrix, discard_threshold=1e-4))
    solved: Floats = np.clip(alpha, 0, 1).reshape(trimap.shape)
    return solved
