"""The report: all tables and figures of some records on one page."""

from benchmark.report.page import write_report

__all__ = ["write_report"]
