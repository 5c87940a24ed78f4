"""The training corpus: sources and their licences, cleaning, mined problems, examples, packed rows."""
