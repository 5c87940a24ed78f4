"""Settings of single stages, which `app.settings` gathers in a profile."""
