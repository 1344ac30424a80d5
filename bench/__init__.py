"""Benchmarks, run from the repository's root: `python -m bench`. Not part of the installed library."""
