"""The sites that are searched, a file each, and what is on this machine. All pages come by the guarded fetch."""
