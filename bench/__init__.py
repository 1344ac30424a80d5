"""Benchmarks, run from the repository's root: `python -m bench an`. Not part of the installed library."""
