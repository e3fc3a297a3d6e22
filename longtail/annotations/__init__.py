"""Reading annotation exports and merging what several annotators said."""
