"""`python -m sllmreal.cli` is `sllm`."""

import sys

from sllmreal.cli.main import main

sys.exit(main())
