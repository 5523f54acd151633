"""What the command ``check`` does: fresh seeds against prediction intervals from reference records."""

from pathlib import Path

PRESET = "micro"
REFERENCE = Path("results/reference") / PRESET
