"""What the command ``check`` does: fresh seeds against prediction intervals from reference records."""

from pathlib import Path

PRESET = "micro"
REFERENCE = Path("results/reference") / PRESET
LEVEL = 0.01  # chance that an unchanged suite is called changed
