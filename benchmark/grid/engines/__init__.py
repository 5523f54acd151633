"""Engines: what does the cells of a plan, here or on other machines. One file per engine."""

from benchmark.grid.engines.base import ENGINES, Engine, choose_engine

__all__ = ["ENGINES", "Engine", "choose_engine"]
