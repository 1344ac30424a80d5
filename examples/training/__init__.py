"""The parts of examples/train.py, one idea a file."""
