//! ONNX Runtime: rows in, log-probabilities out.
