"""Entry point of `python -m sllmreal.cli`, which is `sllm`."""

import sys

from sllmreal.cli.main import main

sys.exit(main())
