"""What every study has: a folder to go on in, claims with their verdicts, and a page."""
