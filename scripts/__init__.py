"""The offline side: train, export, evaluate, benchmark."""
