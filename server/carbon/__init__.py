"""What a joule emitted: the grid's carbon intensity, where it is known from and how old it is."""
