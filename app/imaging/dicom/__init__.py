"""Reading and display of DICOM objects, and overlays as Secondary Captures."""
