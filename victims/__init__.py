"""Victims: CLIP models and their training."""
