"""The version of the product: part of plans, manifests and reports."""

__version__ = "0.8.0"
