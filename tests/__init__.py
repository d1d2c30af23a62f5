"""Set before torch is loaded: its threads sleep while they wait. Their number stays; spinning, they cost more than the work."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
