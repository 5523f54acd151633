"""The report: all tables and figures of some records on one page."""
