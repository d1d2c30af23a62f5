"""Models and answers for other programs: tables, ONNX."""
