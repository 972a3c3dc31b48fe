"""Puts the shared rooms of this folder within reach of its tests, as `conformance.references` and so on."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
