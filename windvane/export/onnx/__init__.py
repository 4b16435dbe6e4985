"""The ensemble of a run on a table as one ONNX graph, from raw columns to probabilities and labels or numbers."""
