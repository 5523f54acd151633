"""Scripts that are no tests: mutations, and tables made from timed runs."""
