"""The number formats that models compute in, as settings name them."""

from typing import Literal

# Not in devices.py, which imports torch: the command line prints its help without it.
Precision = Literal["auto", "fp32", "bf16"]
