"""Where actions are in long videos: anchors, labels, proposals, evaluation; NumPy only."""
