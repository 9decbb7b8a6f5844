"""Explanations: questions, heatmaps, warnings and faithfulness. NumPy and Pillow only."""
