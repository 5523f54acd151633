"""Shared basics: errors, specs, registries, seeding, files, processes; independent of data, models and records."""
