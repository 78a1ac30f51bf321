"""The same load under two or more sets of kernel values, on one board: the comparison that chose the default."""
