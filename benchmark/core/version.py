"""The version of the installed suite."""

from importlib import metadata

try:
    __version__ = metadata.version("unlearnable-bench")
except metadata.PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"
