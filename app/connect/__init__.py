"""Settings with which editors and agents talk to the running server, printed or merged into their files."""
