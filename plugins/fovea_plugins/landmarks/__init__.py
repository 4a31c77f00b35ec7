"""ETDRS grid, zones A to C, and the line from disc to fovea."""
