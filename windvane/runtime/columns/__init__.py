"""Tables: their columns, their schema, and the matrix that models see."""
