"""The page: layout and wiring. Each listener is one call and one rendering."""
