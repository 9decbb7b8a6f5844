"""DICOM objects: reads and displays them, and writes overlays as Secondary Captures."""
