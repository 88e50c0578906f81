"""What gates do to the representation of unsafe and of safe prompts: similarity, geometry, and what probes can read."""

from mechgate.representation.settings import SimilaritySettings
from mechgate.representation.similarity import similarity

__all__ = ["SimilaritySettings", "similarity"]
