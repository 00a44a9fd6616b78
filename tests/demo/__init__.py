"""The demo models do what their cards say."""
