"""Import, inspect and export weights, or write a model card."""
