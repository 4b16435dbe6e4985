"""Models that predict without windvane: folders with a program, scikit-learn objects, ONNX files, torch networks."""
