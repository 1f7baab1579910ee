"""Colours that people with colour-blindness tell apart, shared by all charts (Okabe and Ito)."""

from __future__ import annotations

# Told apart by people with any kind of colour vision (Okabe and Ito).
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#6B6B6B"
