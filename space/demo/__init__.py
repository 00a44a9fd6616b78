"""The demo's pocket-sized models: how they are made, what they can do, and how their merges fare."""
