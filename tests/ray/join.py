"""Join the cluster that RAY_ADDRESS names, as a command does, and end.

python -m tests.ray.join
"""

from app.cluster.session import connected
from app.settings import ClusterSettings

if __name__ == "__main__":
    with connected(ClusterSettings()):
        pass
