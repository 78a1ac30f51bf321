"""Build a release of the service for a board, on the controller, as one archive."""
