"""A fleet as a whole: its inventory made from a list, its memory at a glance. Runs on the controller."""
