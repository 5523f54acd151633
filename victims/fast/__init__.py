"""Faster forms of open_clip's own modules, with the same results; one switch turns them off."""
