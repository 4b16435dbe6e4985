"""The columns of a table: how much they matter, why a row is predicted so, which ones name rows."""
