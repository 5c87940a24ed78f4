"""Join the cluster that RAY_ADDRESS names, as a command does, and end.

python -m tests.ray.join [--lost]    as one whose head is lost once it has answered
"""

import sys

from app.cluster import session, watch
from app.settings import ClusterSettings

if __name__ == "__main__":
    if "--lost" in sys.argv:
        session._ask = lambda address: address
        watch.SILENT_JOINING_S = 3.0
    with session.connected(ClusterSettings()):
        pass
