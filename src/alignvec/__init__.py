"""Alignment as a knob: alignment vectors for language models, added at inference with any coefficient."""

__version__ = "0.1.0"
