"""The composition root: the only place that names concrete classes and decides what starts and stops when."""
