"""The gate in a repository's CI: the files that `fairlead ci init` writes, and the comment on a pull request."""
