"""Export: a trained model in the forms it takes outside the workbench."""
