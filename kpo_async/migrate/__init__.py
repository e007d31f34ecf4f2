"""`kpo-async migrate PATH`: rewrite the imports of a folder of DAGs from the incumbent to this package.

`rules` has the tables of what moves where and what stays, `rewrite` applies them to a source text, `command` to files.
"""
