"""One command for a machine with a GPU, `python -m bench.gpu`: build, check, time, test, and store what came out.

It needs Python, PyTorch and this checkout, and downloads nothing. Every stage is a process of its own, so that one that
crashes, hangs or loses its CUDA context takes no other with it.
"""
