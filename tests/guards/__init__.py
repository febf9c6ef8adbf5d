"""Promises about ourselves: the layers, the documents, the inventory of settings, codes and routes, and the style."""
