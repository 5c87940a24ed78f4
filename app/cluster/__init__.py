"""The Ray cluster that a command runs on: joined or started, its folders, and queues of untrusted jobs."""
