"""Names in published weights files and ours for the same entries: explicit tables, one for each encoder."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

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
_MODNET = r"(?:lr_branch\.)?backbone\.model\."
_MODNET_NARROW = (("0", "0.0"), ("1", "0.1"), ("3", "1"), ("4", "2"))
_MODNET_WIDE = (("0", "0.0"), ("1", "0.1"), ("3", "1.0"), ("4", "1.1"), ("6", "2"), ("7", "3"))
_MODNET_PARTS = (
    ("lr_branch.conv_lr16x", "semantic.to16"), ("lr_branch.conv_lr8x", "semantic.to8"),
    ("hr_branch.tohr_enc2x", "detail.from2"), ("hr_branch.conv_enc2x", "detail.down"),
    ("hr_branch.tohr_enc4x", "detail.from4"), ("hr_branch.conv_enc4x", "detail.merge4"),
    ("f_branch.conv_lr4x", "fusion.at4"), ("f_branch.conv_f2x", "fusion.at2"),
)  # fmt: skip
_MODNET_ROWS = (("hr_branch.conv_hr4x", "detail.at4"), ("hr_branch.conv_hr2x", "detail.at2"),
                ("hr_branch.conv_hr", "detail.at1"), ("f_branch.conv_f", "fusion.at1"))  # fmt: skip
# MODNet's published files name the encoder twice.
MODNET_RULES: Rules = (
    (rf"{_MODNET}classifier\..+", None),
    (rf"{_MODNET}features\.(0|18)\.(\d)\.(.+)", r"encoder.features.\1.\2.\3"),
    *((rf"{_MODNET}features\.1\.conv\.{theirs}\.(.+)", rf"encoder.features.1.conv.{ours}.\1")
      for theirs, ours in _MODNET_NARROW),
    *((rf"{_MODNET}features\.(\d+)\.conv\.{theirs}\.(.+)", rf"encoder.features.\1.conv.{ours}.\2")
      for theirs, ours in _MODNET_WIDE),
    (r"lr_branch\.se_block\.fc\.0\.(.+)", r"semantic.attention.squeeze.\1"),
    (r"lr_branch\.se_block\.fc\.2\.(.+)", r"semantic.attention.excite.\1"),
    (r"lr_branch\.conv_lr\.layers\.0\.(.+)", r"semantic.head.\1"),
    # Heads have one convolution and nothing behind it.
    (r"hr_branch\.conv_hr\.1\.layers\.0\.(.+)", r"detail.at1.1.\1"),
    (r"f_branch\.conv_f\.1\.layers\.0\.(.+)", r"fusion.at1.1.\1"),
    *((rf"{re.escape(theirs)}\.layers\.0\.(.+)", rf"{ours}.0.\1") for theirs, ours in _MODNET_PARTS),
    *((rf"{re.escape(theirs)}\.layers\.1\.bnorm\.(.+)", rf"{ours}.1.batch.\1") for theirs, ours in _MODNET_PARTS),
    *((rf"{re.escape(theirs)}\.(\d)\.layers\.0\.(.+)", rf"{ours}.\1.0.\2") for theirs, ours in _MODNET_ROWS),
    *((rf"{re.escape(theirs)}\.(\d)\.layers\.1\.bnorm\.(.+)", rf"{ours}.\1.1.batch.\2")
      for theirs, ours in _MODNET_ROWS),
)  # fmt: skip
MOBILENET_RULES: Rules = (
    *MODNET_RULES,
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
_PARTS = (("conv", "0"), ("bn", "1"))
FBA_RULES: Rules = (
    (r"encoder\.(.+)", r"encoder.\1"),
    (r"decoder\.ppm\.(\d)\.1\.(.+)", r"pooling.\1.0.\2"),
    (r"decoder\.ppm\.(\d)\.2\.(.+)", r"pooling.\1.1.\2"),
    (r"decoder\.conv_up1\.([01])\.(.+)", r"up1.0.\1.\2"),
    (r"decoder\.conv_up1\.3\.(.+)", r"up1.1.0.\1"),
    (r"decoder\.conv_up1\.4\.(.+)", r"up1.1.1.\1"),
    (r"decoder\.conv_up(\d)\.(.+)", r"up\1.\2"),
)
# After `_SPECTRAL`: what divides a weight is a module of its own in published files, and a parametrization here.
GCA_RULES: Rules = (
    *((rf"encoder\.{part}1\.(.+)", rf"encoder.stem.{at}.\1") for part, at in _PARTS),
    *((rf"encoder\.{part}2\.(.+)", rf"encoder.stem.{int(at) + 3}.\1") for part, at in _PARTS),
    *((rf"encoder\.{part}3\.(.+)", rf"encoder.entry.{at}.\1") for part, at in _PARTS),
    (r"encoder\.layer_bottleneck\.(\d)\.downsample\.(.+)", r"encoder.layer4.\1.shortcut.\2"),
    (r"encoder\.layer_bottleneck\.(.+)", r"encoder.layer4.\1"),
    (r"encoder\.layer(\d)\.(\d)\.downsample\.(.+)", r"encoder.layer\1.\2.shortcut.\3"),
    (r"encoder\.(layer\d\..+)", r"encoder.\1"),
    (r"encoder\.shortcut\.(.+)", r"encoder.shortcuts.\1"),
    (r"encoder\.guidance_head\.(.+)", r"encoder.guidance.\1"),
    (r"encoder\.gca\.guidance_conv\.(.+)", r"encoder.attention.guidance.\1"),
    (r"encoder\.gca\.W\.0\.(.+)", r"encoder.attention.out.\1"),
    (r"encoder\.gca\.W\.1\.(.+)", r"encoder.attention.norm.\1"),
    (r"decoder\.layer(\d)\.(\d)\.upsample\.(.+)", r"layer\1.\2.shortcut.\3"),
    (r"decoder\.(layer\d\..+)", r"\1"),
    (r"decoder\.conv1\.(.+)", r"exit.0.\1"),
    (r"decoder\.bn1\.(.+)", r"exit.1.\1"),
    (r"decoder\.conv2\.(.+)", r"head.\1"),
    (r"decoder\.gca\.guidance_conv\.(.+)", r"attention.guidance.\1"),
    (r"decoder\.gca\.W\.0\.(.+)", r"attention.out.\1"),
    (r"decoder\.gca\.W\.1\.(.+)", r"attention.norm.\1"),
)
_SPECTRAL = ((".module.weight_bar", ".parametrizations.weight.original"),
             (".module.weight_u", ".parametrizations.weight.0._u"),
             (".module.weight_v", ".parametrizations.weight.0._v"))  # fmt: skip
# After `joined`, which makes one index network of the four of a stage.
INDEXNET_RULES: Rules = (
    (r"layer(\d)\.(.+)", r"encoder.stages.\1.\2"),
    *((rf"index(\d)\.{theirs}\.(.+)", rf"encoder.indices.\1.{ours}.\2")
      for theirs, ours in (("0", "context"), ("1", "norm"), ("3", "index"))),
    (r"dconv_pp\.aspp1\.atrous_conv\.(.+)", r"context.point.\1"),
    *((rf"dconv_pp\.aspp{number + 2}\.atrous_conv\.(.+)", rf"context.branches.{number}.\1") for number in range(3)),
    *((rf"dconv_pp\.global_avg_pool\.{at + 1}\.(.+)", rf"context.whole.{at}.\1") for at in range(2)),
    (r"dconv_pp\.bottleneck_conv\.(.+)", r"context.merge.\1"),
    *((rf"decoder_layer{6 - level}\.dconv\.(.+)", rf"decoder.{level}.\1") for level in range(7)),
    (r"pred\.0\.(.+)", r"head.\1"),
    (r"pred\.1\.(.+)", r"last.\1"),
)  # fmt: skip
ENCODER_RULES = {
    "p3mnet_resnet34": RESNET_RULES,
    "p3mnet_swin_t": SWIN_RULES,
    "p3mnet_vitae_s": VITAE_RULES,
    "gfm_resnet34": GFM_RULES,
    "modnet": MOBILENET_RULES,
    "fba": FBA_RULES,
    "gca": GCA_RULES,
    "indexnet": INDEXNET_RULES,
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
ALIAS = r"(encoder[0-4]|lr_branch\.backbone)\..+"
# A name that only one variant's published files have.
TELLTALES = {
    "modnet": "lr_branch.se_block.fc.0.weight",
    "gfm_resnet34": "psp_module.bottleneck.weight",
    "p3mnet_resnet34": "resnet.conv1.weight",
    "p3mnet_swin_t": "encoder.patch_embed.proj1.weight",
    "p3mnet_vitae_s": "encoder.layers.0.RC.proj1.weight",
    "fba": "decoder.conv_up4.4.weight",
    "gca": "decoder.gca.W.0.weight",
    "indexnet": "dconv_pp.bottleneck_conv.0.weight",
}
# Ordinary ImageNet files of the encoders of compared networks, as PyTorch's model zoo names them; classifiers go.
_RESNET: Rules = ((r"fc\..+", None), (r"(.+)", r"encoder.\1"))
_INVERTED = tuple(
    (features, stage, block)
    for features, (stage, block) in enumerate(
        ((stage, block) for stage, blocks in enumerate((1, 2, 3, 4, 3, 3, 1), 1) for block in range(blocks)), 1
    )
)
# Positions in an inverted residual by torchvision's names, of one without expansion and of the others.
_NARROW = ((r"0\.0", "0"), (r"0\.1", "1"), ("1", "3"), ("2", "4"))
_WIDE = ((r"0\.0", "0"), (r"0\.1", "1"), (r"1\.0", "3"), (r"1\.1", "4"), ("2", "6"), ("3", "7"))
_MOBILENET: Rules = (
    (r"(classifier|features\.18)\..+", None),
    (r"features\.0\.([01])\.(.+)", r"encoder.stages.0.\1.\2"),
)
# Names of one form mean other entries in the other: IndexNet takes either, told apart by one that only this one has.
TORCHVISION_MOBILENET, TORCHVISION_HAS = "indexnet of torchvision", "features.1.conv.0.0.weight"
IMAGENET_RULES: dict[str, Rules] = {
    "dim": ((r"classifier\..+", None), (r"(features\..+)", r"encoder.\1")),
    "fba": _RESNET,
    "alphagan": _RESNET,
    "hatt": _RESNET,
    "shm": ((r"fc\..+", None), (r"(.+)", r"trimap.backbone.\1")),
    "lf": (
        (r"classifier\..+", None),
        *((rf"features\.denseblock{number + 1}\.denselayer{layer + 1}\.(norm|conv)\.?([12])\.(.+)",
           rf"encoder.blocks.{number}.{layer}.\1\2.\3")
          for number, layers in enumerate((6, 12, 48, 32)) for layer in range(layers)),
        *((rf"features\.transition{number + 1}\.(.+)", rf"encoder.transitions.{number}.\1") for number in range(3)),
        (r"features\.(conv0|norm0|norm5)\.(.+)", r"encoder.\1.\2"),
    ),
    "indexnet": (*_MOBILENET, *(
        (rf"features\.{features}\.conv\.(\d)\.(.+)", rf"encoder.stages.{stage}.{block}.conv.\1.\2")
        for features, stage, block in _INVERTED
    )),
    TORCHVISION_MOBILENET: (*_MOBILENET, *(
        (rf"features\.{features}\.conv\.{theirs}\.(\D.+)", rf"encoder.stages.{stage}.{block}.conv.{ours}.\1")
        for features, stage, block in _INVERTED for theirs, ours in (_NARROW if stage == 1 else _WIDE)
    )),
}  # fmt: skip
# Of these encoders: the first convolution, which sees more than colours, and what ImageNet files have nothing of.
FIRST_CONVOLUTIONS = {
    "dim": "encoder.features.0.weight", "fba": "encoder.conv1.weight", "alphagan": "encoder.conv1.weight",
    "indexnet": "encoder.stages.0.0.weight",
}  # fmt: skip
NOT_OF_IMAGENET = {"indexnet": r"encoder\.indices\..+"}


def imagenet_name(rules: str, name: str) -> str | None:
    """Our name of an entry of an ImageNet file by some of `IMAGENET_RULES`; None if the network has no use for it.

    Raises:
        KeyError: No rule knows the name.
    """
    for pattern, replacement in IMAGENET_RULES[rules]:
        if found := re.fullmatch(pattern, name):
            return None if replacement is None else found.expand(replacement)
    raise KeyError(name)


# Published names of an encoder begin with this in a P3M-Net file, and without it in an ImageNet file.
ENCODER_PREFIXES = {
    "p3mnet_resnet34": "resnet.",
    "p3mnet_swin_t": "encoder.",
    "p3mnet_vitae_s": "encoder.",
    "gfm_resnet34": "resnet.",
    "modnet": "mobilenet.",
}


def joined(variant: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Entries of a published file, those that are one of ours together joined: IndexNet's four networks of a stage."""
    if variant != "indexnet":
        return dict(state)
    parts: dict[str, dict[int, Tensor]] = {}
    others: dict[str, Tensor] = {}
    for name, value in state.items():
        if found := re.fullmatch(r"(index\d)\.indexnet([1-4])\.(.+)", name):
            parts.setdefault(f"{found[1]}.{found[3]}", {})[int(found[2])] = value
        else:
            others[name] = value
    for name, four in parts.items():
        values = [four[number] for number in sorted(four)]
        others[name] = torch.cat(values) if values[0].dim() else values[0]
    return others


def our_name(variant: str, official: str) -> str | None:
    """Our name of an entry of a published file; None if the network has no use for it.

    Raises:
        KeyError: No rule knows the name.
    """
    if variant == "gca":
        for theirs, ours in _SPECTRAL:
            official = official.removesuffix(theirs) + ours if official.endswith(theirs) else official
    for pattern, replacement in (*ENCODER_RULES[variant], *DECODER_RULES):
        found = re.fullmatch(pattern, official)
        if found:
            return None if replacement is None else found.expand(replacement)
    raise KeyError(official)
