"""Documents, passages and the indexes over them."""
