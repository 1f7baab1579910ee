"""P3M-Net, the matting network of 'Rethinking Portrait Matting with Privacy Preserving' (IJCV 2023), and its metrics.

Nothing here needs torch before a network is made.
"""

from p3mdata import __version__

__all__ = ["__version__"]
