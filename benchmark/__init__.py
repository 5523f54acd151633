"""Unlearnable Bench: multimodal unlearnable examples against defenses, through one harness."""

__version__ = "0.1.0"
