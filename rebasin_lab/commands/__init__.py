"""The commands `check`, `align`, `merge` and `line`: the library, for checkpoints in files.

They need neither Jupyter nor matplotlib. In reading order: `errors` (as paragraphs), `options`
(what the commands share), `examples` (images to look at), `networks` (the function that parameters
belong to), `inputs` (all of these, checked before any work), `alignment`, `outputs` (files and
cards), `config` (merge.yml), and a module for each command.
"""
