"""Folders of results: the blocks of runs, what belongs in a folder, and how they are read."""
