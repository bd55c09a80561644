"""A dynamic network as a static one that other engines run."""
