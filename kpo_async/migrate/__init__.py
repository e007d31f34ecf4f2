"""`kpo-async migrate PATH`: rewrites the imports of a folder of DAGs from the incumbent to this package.

`rules` says what becomes what and what cannot, `rewrite` applies that to one source text, `command` to files.
"""
