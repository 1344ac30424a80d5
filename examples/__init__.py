"""Programs that use fusednorm: run them from the repository's root, `python -m examples.train --help`."""
