"""The tools that this server runs for a model itself, and the loop in which a model uses them."""
