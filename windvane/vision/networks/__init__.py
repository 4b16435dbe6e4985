"""Networks: from a recipe, from pre-trained weights; their parameters, multiply-adds and speed."""
