"""Ways that are off by default: two that gained nothing (data dropout, nested ranks), one for models too large."""
