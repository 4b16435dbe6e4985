"""Which configuration next, for how long, and what came of it."""
