"""One research question a file: asked with settings, its tables kept, its numbers written and its figures drawn.

The scripts in analyses/, the commands and a study all ask here, so that no number has two ways of being made.
"""
