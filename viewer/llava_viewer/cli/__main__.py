"""`python -m llava_viewer.cli` is `llava-viewer`."""

import sys

from llava_viewer.cli.main import main

sys.exit(main())
