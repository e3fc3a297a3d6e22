"""The audit: what is wrong with the annotations themselves, and a list to work through."""
