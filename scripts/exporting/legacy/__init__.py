"""Conversion of files of Keras 2 and of earlier versions of Keras 3 for the installed Keras."""
