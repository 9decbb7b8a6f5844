"""The protocols for inference that clients already speak: KServe V1 and TensorFlow Serving, and Open Inference (V2)."""
