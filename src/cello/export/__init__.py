"""Write trained models in forms that need neither Cello nor torch."""
