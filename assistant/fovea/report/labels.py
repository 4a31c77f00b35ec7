"""Words that stand on everything that Fovea writes."""

LABEL = "AI DRAFT - research use only. Not a medical device. Not for diagnostic use until reviewed."
