"""Offline commands: train, validate, evaluate, export and benchmark models."""

import os

# TensorFlow writes the artefacts, whatever backend the user's other programs use; Keras reads this when it is imported.
os.environ["KERAS_BACKEND"] = "tensorflow"
# TensorFlow logs every library that it does not find.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
