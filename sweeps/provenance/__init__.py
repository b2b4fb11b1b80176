"""Where results come from: what computed them, and the code that ran."""
