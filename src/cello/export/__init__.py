"""Write trained models in forms that need no workbench."""
