"""Words that stand on everything that Fovea writes."""

LABEL = "AI DRAFT - research use only. Not a medical device. Not for diagnostic use until reviewed."
TITLES = (
    ("header", "Header"), ("indication", "Indication and history"), ("quality", "Image quality"),
    ("optic_disc", "Optic disc"), ("macula", "Macula"), ("vessels", "Vessels"),
    ("periphery", "Periphery"), ("lesions", "Lesions"), ("biomarkers", "Biomarkers and reference"),
    ("comparison", "Comparison with earlier photographs"), ("impression", "Impression"),
    ("differential", "Differential"), ("recommendation", "Recommendation and urgency"),
    ("similar", "Similar cases"), ("limitations", "Limitations and intended use"),
    ("provenance", "Provenance"), ("sign_off", "Sign-off"),
)  # fmt: skip
"""Key and title of the 17 sections, in order."""
