"""What a study has found: from episodes to a summary, tables, plots and a page."""
