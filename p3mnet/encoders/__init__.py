"""Encoders behind one contract: six maps of known channels and strides, and five sets of pooling indices."""

from __future__ import annotations

from p3mnet.encoders.contract import LARGEST_STRIDE, STRIDES, Encoder, Features
from p3mnet.encoders.resnet import NarrowResNet34, ResNet34
from p3mnet.encoders.swin import SwinT
from p3mnet.encoders.vitae import ViTAES

__all__ = ["LARGEST_STRIDE", "STRIDES", "Encoder", "Features", "NarrowResNet34", "ResNet34", "SwinT", "ViTAES"]
