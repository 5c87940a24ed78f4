"""A driver that starts the experiment of `evolving.py`, or goes on with it, and dies at a point of a boundary.

python -m tests.ray.driver GCS_ADDRESS FOLDER decided|saved GENERATION
"""

import sys
from pathlib import Path

from tests.ray.evolving import drive

if __name__ == "__main__":
    address, work, point, generation = sys.argv[1:]
    drive(address, Path(work), [0.3, 2], point, int(generation))
