"""What a worker makes of a request and a server of the contributions; one paper, one file.

Begin with ``base.py`` (the three tuples) and ``gradient.py`` (what a plain run does);
``registry.py`` has the names. Import what you need from the modules: the command line reads the
names without JAX.
"""
