"""Loggers: what a run tells TensorBoard, MLflow, Weights & Biases, trackio, a .csv file, or a logger of one's own."""
