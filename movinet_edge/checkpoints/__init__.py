"""Read other people's weights; write our own."""
