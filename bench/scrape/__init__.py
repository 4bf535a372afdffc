"""What a scrape of a large fleet takes, and what it does to those who ask meanwhile."""
