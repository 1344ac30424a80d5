"""The parts of examples/small_batch.py."""
