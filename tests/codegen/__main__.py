"""`make check-kernels`: no GPU needed.

python -m tests.codegen
"""

import sys

from .report import main

if __name__ == "__main__":
    sys.exit(main())
