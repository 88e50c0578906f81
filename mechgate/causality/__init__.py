"""Which heads carry the behaviour, and are they the ones that gates target?"""
