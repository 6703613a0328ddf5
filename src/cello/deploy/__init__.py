"""A trained model without the workbench."""
