"""Image files to pixels, and pixels with a heatmap to pictures."""
