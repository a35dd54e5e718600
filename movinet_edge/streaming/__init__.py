"""The streaming core: layers that compute a clip and a stream with the same mathematics."""
