"""The page of ``opera-env demo``: restore a photograph, compare agents, and play by hand."""
