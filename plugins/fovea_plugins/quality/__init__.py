"""Quality gate: modality, sharpness, illumination, disc, fovea, eye and field."""
