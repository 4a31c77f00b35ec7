"""Blood vessels of the retina."""
