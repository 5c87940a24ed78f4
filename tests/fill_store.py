"""Fill the object store of the Ray that runs in RAY_TMPDIR with more than it holds, until this process is ended.

Run: python -m tests.fill_store MEGABYTES
"""

import signal
import sys


def main() -> None:
    import numpy as np
    import ray

    ray.init(address="auto", log_to_driver=False)
    held = [ray.put(np.zeros(10 << 20, np.uint8)) for _ in range(int(sys.argv[1]) // 10)]
    signal.pause()
    del held


if __name__ == "__main__":
    main()
