"""What the command ``check`` does: fresh seeds against prediction intervals from reference records."""
