"""Data sets: which videos there are, their clips, and whether they are in order."""
