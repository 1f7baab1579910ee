"""P3M-CP: faces that may be shown are pasted over obfuscated ones while a network is trained (paper, section 'P3M-CP').

Source data are portraits with facemasks and without alphas (`p3mdata celeba-facemask`). CA, 'copy with augmentation',
cuts the source's face out, resizes it at random, then turns it at random. AM, 'align and merge', lays the centroid of
the face's mask on that of the target's facemask and pastes where both masks are set; all else, alphas too, stays
untouched. ICP does so with images, FCP with features of one shallow layer of the encoder. Nothing in it is learned.

What the paper leaves open, and what is done here:

- The centre of a mask is its centroid, rounded to a pixel; there is a coin for each image of a batch.
- Each connected part of a facemask is a face with a centre, a source and a turn of its own. Specks, and parts that the
  matte does not call foreground, such as bystanders and false masks, are left as they are.
- Portraits that are not CelebA-HQ's are cut to the face in its framing, which is what the scales are meant for.
- A picture without facemask is left as it is, and so is one whose overlap is empty.
- Where a batch has foreground colours, ICP pastes into these as well: the face belongs to the person, and the
  composition loss would else pull alpha away from its label there.
- Frames are brought to the samples' size, facemasks with them.
- FCP merges at E_0 by default: only there the poolings' indices, the skips and sBFI all see the merge.
- FCP draws one source per batch. Its pass runs without gradient and with batch norm (and stochastic depth) as in
  evaluation: neither statistics nor gradients know of it.
"""

from __future__ import annotations

from p3mnet.copy_paste.config import RECIPES, CopyPasteConfig
from p3mnet.copy_paste.features import FCP, fcp
from p3mnet.copy_paste.geometry import Overlap, Turn, align, cut_and_turn
from p3mnet.copy_paste.images import ICP, draw_icp, icp, paste_image
from p3mnet.copy_paste.sources import Source, Sources

__all__ = [
    "FCP", "ICP", "RECIPES", "CopyPasteConfig", "Overlap", "Source", "Sources", "Turn", "align", "cut_and_turn",
    "draw_icp", "fcp", "icp", "paste_image",
]  # fmt: skip
