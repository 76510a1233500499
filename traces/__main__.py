"""Entry point of `python -m traces`; the commands are in `traces.cli`."""

import sys

from traces.cli import main

sys.exit(main())
