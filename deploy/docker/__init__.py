"""The images: their Dockerfiles, and what runs inside them beside the server."""
