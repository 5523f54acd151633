"""Exporting protected data as files that others can train on, and verifying such files."""
