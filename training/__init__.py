"""Training of G and M: the paper's recipe, the data it learns from and the loop that runs it."""
