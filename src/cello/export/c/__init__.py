"""The C99 text of an exported model that is the same for all models."""
