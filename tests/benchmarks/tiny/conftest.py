"""Let tests import the scripts of benchmarks/tiny, which import each other as siblings."""

import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[3] / "benchmarks" / "tiny"
sys.path.insert(0, str(SCRIPTS))
