"""Files that users bring and files that the project keeps: read, written, and explained when broken."""
