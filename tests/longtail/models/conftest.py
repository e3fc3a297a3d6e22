"""The tiny encoder of ``tests/longtail`` is importable here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
