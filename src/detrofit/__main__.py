"""`python -m detrofit` is the `detrofit` command; `accelerate launch -m detrofit` needs this form."""

import sys

from detrofit.cli import main

if __name__ == "__main__":
    sys.exit(main())
