"""The tool `classify_disease`: diabetic retinopathy grade and other conditions."""
