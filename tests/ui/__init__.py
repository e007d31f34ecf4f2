"""A package, so that its fixture `site` stops its API server after the last test of this folder."""
