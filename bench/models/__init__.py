"""The models, a module per family; each gives its cases."""
