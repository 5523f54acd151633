"""Cells and their records: settings, planning, the poisons they share and the run itself."""
