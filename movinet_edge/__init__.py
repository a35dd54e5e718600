"""movinet-edge: trained streaming video models become phone-ready step models.

Import the part you need; nothing heavy is loaded here:

* ``movinet_edge.runtime`` runs a bundle (numpy and one engine, never torch);
* ``movinet_edge.models`` and ``movinet_edge.streaming`` hold the PyTorch models;
* ``movinet_edge.export`` writes and verifies bundles.
"""

import os

__version__ = "0.1.0"

# ONNX Runtime reports usage over the network unless told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
