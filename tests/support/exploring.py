"""How much the tests try that try many things: a little in the test run, much more with ``make explore``.

PYTEST_DONT_REWRITE, as in ``tests.support.world``.
"""

from __future__ import annotations

import os

USUAL = 3
EXAMPLES = int(os.environ.get("CARBONTRACK_EXAMPLES", str(USUAL)))
"""How many requests of each kind for each route."""
IS_LONG = EXAMPLES > USUAL
