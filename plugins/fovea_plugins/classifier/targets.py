"""What the classifier answers, in the order of the network's outputs."""

from __future__ import annotations

GRADES = ("dr_1", "dr_2", "dr_3", "dr_4")
"""ICDR grade is at least 1, 2, 3, 4: an ordinal target (Cheng et al. 2008, arXiv 0704.1028)."""

OEDEMA = ("dme_1", "dme_2")
"""Risk of macular oedema is at least 1 (exudates), 2 (within a disc diameter of the fovea)."""

CONDITIONS = ("N", "D", "G", "C", "A", "H", "M", "O")
"""Labels of ODIR-5K: normal, diabetes, glaucoma, cataract, AMD, hypertension, myopia, other."""

TARGETS = (*GRADES, *OEDEMA, *CONDITIONS)

REFERABLE = "dr_2"
"""Referable retinopathy: ICDR grade 2 or more."""
