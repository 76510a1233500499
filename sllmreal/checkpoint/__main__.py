"""`python -m sllmreal.checkpoint convert|verify|inspect|export`."""

import sys

from sllmreal.checkpoint.cli import main

sys.exit(main())
