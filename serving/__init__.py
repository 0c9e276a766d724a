"""Serve exported classifiers: an API, a page, workers and a queue; neither torch nor the pipeline is imported."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is imported; 1.28.0 sends nothing anyway
NOTICE = "For research and teaching. Not a medical device: no diagnosis, and no proof that a lesion is harmless."
