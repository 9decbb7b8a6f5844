"""Files of Keras 2 and of earlier Keras 3, brought into what the installed Keras reads."""
