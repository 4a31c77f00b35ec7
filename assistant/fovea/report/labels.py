"""Words that stand on everything that Fovea writes."""

LABEL = "AI DRAFT - research use only. Not a medical device. Not for diagnostic use until reviewed."
INTENDED_USE = (
    "Research use only. Not a medical device. It reports what software saw in photographs; what "
    "it did not see is not excluded, and only a clinician can judge the eye."
)
REVIEWED = "Reviewed by {by} on {at}. AI-assisted, research use only. Not a medical device."
SIGN_AGAIN = "Changed after the review by {by}: it has to be signed again."
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

USUAL_RECALL = "U0"
URGENCY_WORDS = {
    "U5": "at once",
    "U4": "within 24 hours",
    "U4w": "within one working day",
    "U3": "urgent: within one to two weeks",
    "U2": "soon: within four weeks",
    "U1": "routine referral",
    "U0": "routine recall",
}
"""Normalised urgency of guideline advice, most urgent first."""

GUIDELINE_SETS = ("uk_nhs", "us_ada_aao")
"""Guideline sets whose advice is shipped."""
NO_ADVICE = "none of the guidance that was read for the knowledge base names it"
"""Why a guideline set has no advice, where its entry gives no reason of its own."""
RECALL_LEFT_OUT = "the usual recall is left out, because a graver grade is not excluded"
