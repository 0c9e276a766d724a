"""What leaves the pipeline: a network as one ONNX file, and a card that says what it is."""
