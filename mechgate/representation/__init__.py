"""Which representations do gates act on? Similarity, persona vectors and sparse features, each with its nulls."""
