"""Floor 2: whole jobs, built from sources, events, synthesis and writers."""
