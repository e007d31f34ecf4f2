"""The page of all parameters, `REFERENCE.md` in this package: `python -m kpo_async.reference` writes it.

`parameters` is what only people can say (meaning, difference from the incumbent); `page` takes type, default and
template from the operator itself. A test checks that the page is current and that no parameter is without a word.
"""
