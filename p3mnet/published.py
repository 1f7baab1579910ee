"""Names in published weights files and ours for the same entries: explicit tables, one for each encoder."""

from __future__ import annotations

import re

# Published name -> our name, first match; None = held by the published network but not used by it, or constant.
Rules = tuple[tuple[str, str | None], ...]
RESNET_RULES: Rules = (
    (r"resnet\.fc\..+", None),  # classifier
    (r"resnet\.(.+)", r"encoder.\1"),
    # The published network names each stage twice; the second name wins, as in its own loading.
    (r"encoder0\.0\.(.+)", r"encoder.conv1.\1"),
    (r"encoder0\.1\.(.+)", r"encoder.bn1.\1"),
    (r"encoder1\.0\.(.+)", r"encoder.layer1.\1"),
    (r"encoder([234])\.(.+)", r"encoder.layer\1.\2"),
)
SWIN_RULES: Rules = (
    (r"encoder\.head\..+", None),  # classifier, in ImageNet files
    (r".+\.(attn_mask|relative_position_index)", None),  # follow from the size
    (r"encoder\.patch_embed\.proj(\d)\.(.+)", r"encoder.embed.conv\1.\2"),
    (r"encoder\.patch_embed\.norm\.(.+)", r"encoder.embed.norm.\1"),
    (r"encoder\.layers\.(\d)\.downsample\.(.+)", r"encoder.merges.\1.\2"),
    (
        r"encoder\.layers\.(\d)\.blocks\.(\d)\.attn\.relative_position_bias_table",
        r"encoder.stages.\1.blocks.\2.attention.bias_table",
    ),
    (r"encoder\.layers\.(\d)\.blocks\.(\d)\.attn\.(.+)", r"encoder.stages.\1.blocks.\2.attention.\3"),
    (r"encoder\.layers\.(\d)\.blocks\.(\d)\.(.+)", r"encoder.stages.\1.blocks.\2.\3"),
    (r"encoder\.norm\.(.+)", r"encoder.norm.\1"),
)
VITAE_RULES: Rules = (
    (r"encoder\.head\..+", None),  # classifier
    (r"encoder\.layers\.0\.NC\.\d\.attn\.norm1\..+", None),  # a layer norm that nothing calls
    (r"encoder\.layers\.0\.RC\.proj(\d)\.(.+)", r"encoder.embed.conv\1.\2"),
    (r"encoder\.layers\.0\.RC\.norm\.(.+)", r"encoder.embed.norm.\1"),
    (r"encoder\.layers\.1\.RC\.(.+)", r"encoder.merges.0.\1"),
    (r"encoder\.layers\.2\.RC\.(.+)", r"encoder.merges.1.\1"),
    (r"encoder\.layers\.3\.RC\.(.+)", r"encoder.merges.2.\1"),
    (r"encoder\.layers\.0\.NC\.(\d)\.attn\.w", r"encoder.stages.0.\1.attention.projection"),
    (r"encoder\.layers\.(\d)\.NC\.(\d+)\.attn\.(.+)", r"encoder.stages.\1.\2.attention.\3"),
    (r"encoder\.layers\.(\d)\.NC\.(\d+)\.PCM\.(.+)", r"encoder.stages.\1.\2.local.\3"),
    (r"encoder\.layers\.(\d)\.NC\.(\d+)\.(.+)", r"encoder.stages.\1.\2.\3"),
)
MOBILENET_RULES: Rules = (
    (r"mobilenet\.classifier\..+", None),  # classifier
    (r"mobilenet\.(.+)", r"encoder.\1"),
)
_UNITS = (("0", "0.conv"), ("1", "0.norm"), ("3", "1.conv"), ("4", "1.norm"), ("6", "2.conv"), ("7", "2.norm"))
GFM_RULES: Rules = (
    (r"encoder1\.1\.(.+)", r"encoder.layer1.\1"),
    (r"psp_module\.stages\.(\d)\.1\.(.+)", r"pooling.project.\1.\2"),
    (r"psp_module\.bottleneck\.(.+)", r"pooling.merge.\1"),
    *((rf"psp{level + 1}\.0\.(.+)", rf"context.{level}.conv.\1") for level in range(4)),
    *((rf"psp{level + 1}\.1\.(.+)", rf"context.{level}.norm.\1") for level in range(4)),
    *((rf"bridge_block\.{position}\.(.+)", rf"bridge.{unit}.\1") for position, unit in _UNITS),
    *((rf"decoder0_{letter}\.6\.(.+)", rf"{branch}.0.2.\1") for letter, branch in (("g", "glance"), ("f", "focus"))),
    *(
        (rf"decoder(\d)_{letter}\.{position}\.(.+)", rf"{branch}.\1.{unit}.\2")
        for letter, branch in (("g", "glance"), ("f", "focus"))
        for position, unit in _UNITS
    ),
    *RESNET_RULES,
)
ENCODER_RULES = {
    "p3mnet_resnet34": RESNET_RULES,
    "p3mnet_swin_t": SWIN_RULES,
    "p3mnet_vitae_s": VITAE_RULES,
    "gfm_resnet34": GFM_RULES,
    "modnet": MOBILENET_RULES,
}
_BRANCHES = (("g", "segmentation"), ("l", "matting"))
# `decoder.` stands before these names in the files of swin_t and vitae_s.
DECODER_RULES: Rules = (
    (r"(?:decoder\.)?decoder0_g\.6\.(.+)", r"segmentation.stages.0.2.\1"),
    *(
        (rf"(?:decoder\.)?decoder(\d)_{letter}\.{position}\.(.+)", rf"{branch}.stages.\1.{unit}.\2")
        for letter, branch in _BRANCHES
        for position, unit in _UNITS
    ),
    *((rf"(?:decoder\.)?decoder_final_{letter}\.(.+)", rf"{branch}.head.\1") for letter, branch in _BRANCHES),
    (r"(?:decoder\.)?tfi_(\d)\.transform\.(.+)", r"matting.tfi.\1.project.\2"),
    (r"(?:decoder\.)?sbfi_(\d)\.transform1\.(.+)", r"matting.sbfi.\1.project_matting.\2"),
    (r"(?:decoder\.)?sbfi_(\d)\.transform2\.(.+)", r"matting.sbfi.\1.project_e0.\2"),
    (r"(?:decoder\.)?(tfi|sbfi)_(\d)\.conv1\.(.+)", r"matting.\1.\2.merge.conv.\3"),
    (r"(?:decoder\.)?(tfi|sbfi)_(\d)\.bn1\.(.+)", r"matting.\1.\2.merge.norm.\3"),
    (r"(?:decoder\.)?dbfi_(\d)\.transform1\.(.+)", r"segmentation.dbfi.\1.project_segmentation.\2"),
    (r"(?:decoder\.)?dbfi_(\d)\.transform2\.(.+)", r"segmentation.dbfi.\1.project_e4.\2"),
    (r"(?:decoder\.)?dbfi_(\d)\.conv1\.(.+)", r"segmentation.dbfi.\1.merge.conv.\2"),
    (r"(?:decoder\.)?dbfi_(\d)\.bn1\.(.+)", r"segmentation.dbfi.\1.merge.norm.\2"),
    (r"(?:decoder\.)?dbfi_(\d)\.conv2\.(.+)", r"segmentation.dbfi.\1.side_head.\2"),
)
ALIAS = r"encoder[0-4]\..+"
# A name that only one variant's published files have.
TELLTALES = {
    "gfm_resnet34": "psp_module.bottleneck.weight",
    "p3mnet_resnet34": "resnet.conv1.weight",
    "p3mnet_swin_t": "encoder.patch_embed.proj1.weight",
    "p3mnet_vitae_s": "encoder.layers.0.RC.proj1.weight",
}
# Published names of an encoder begin with this in a P3M-Net file, and without it in an ImageNet file.
ENCODER_PREFIXES = {
    "p3mnet_resnet34": "resnet.",
    "p3mnet_swin_t": "encoder.",
    "p3mnet_vitae_s": "encoder.",
    "gfm_resnet34": "resnet.",
    "modnet": "mobilenet.",
}


def our_name(variant: str, official: str) -> str | None:
    """Our name of an entry of a published file; None if the network has no use for it.

    Raises:
        KeyError: No rule knows the name.
    """
    for pattern, replacement in (*ENCODER_RULES[variant], *DECODER_RULES):
        found = re.fullmatch(pattern, official)
        if found:
            return None if replacement is None else found.expand(replacement)
    raise KeyError(official)
