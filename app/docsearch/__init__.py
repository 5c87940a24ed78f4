"""Search the documentation sites of a fixed list: every request goes through one guard, and offline there is none."""
