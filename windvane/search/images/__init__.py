"""The problem of a run on images, prepared within its share of the budget."""
