"""The sites that are searched, a file each, and what is on this machine. None opens a connection: pages come by `get`."""
