"""From released images to a dataset: layouts, splits, trimaps, and checks of any folder of such a layout.

layout (which sets and folders) <- split (who goes where, pure) <- build (files) ; check, stats (read any dataset)
"""
