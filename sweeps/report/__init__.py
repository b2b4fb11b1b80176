"""What a reader is shown: summaries, tables, figures, pages, and how far work is."""
