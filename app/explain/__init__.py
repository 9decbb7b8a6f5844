"""From a question and evidence to an explanation, its warnings and its judgement. NumPy and Pillow only."""
