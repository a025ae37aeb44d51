"""`python -m resnetkit` is the `resnetkit` command."""

import sys

from resnetkit.cli import main

sys.exit(main())
