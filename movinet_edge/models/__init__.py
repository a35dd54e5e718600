"""The trainable models, written once for clips and streams."""
