"""DICOM objects: reading them, showing them, and writing overlays as Secondary Captures."""
