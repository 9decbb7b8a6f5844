"""Lightbox: class probabilities and a Grad-CAM overlay from one forward pass, over HTTP."""

__version__ = "0.1.0"
