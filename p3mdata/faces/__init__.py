"""Faces in an image: detectors, landmarks, their agreement, and the model files behind them."""
