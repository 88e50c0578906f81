"""Planted truth: behaviour that is known to sit in certain heads, and how well each method finds them."""
