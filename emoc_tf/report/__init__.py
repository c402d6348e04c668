"""What people look at: figures, tables, a page."""
