"""Review of what a run held back: a person's decisions, from a local page or from a file.

session (state and decisions of one run) <- server (HTTP on this machine only) <- page (plain JavaScript)
                                         <- batch (decisions from a file)
"""
