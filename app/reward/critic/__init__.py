"""Rankings of drafts that no test decides between."""
