"""Models and answers for other programs: tables, ONNX, libraries of explainers."""
